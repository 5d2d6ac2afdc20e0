
# What the tests over HTTP share: a node with the API's roles, signing keys and
# orgs; the gateway, and nginx before a server that follows PostgREST's contract,
# as processes; and requests by curl.

package GatewayTest;

use strict;
use warnings FATAL => 'all';

use Cwd qw(abs_path);
use Exporter 'import';
use File::Basename qw(basename dirname);
use File::Copy qw(copy);
use IO::Socket::INET;
use IPC::Run;
use JSON::PP qw(decode_json encode_json);
use MIME::Base64 qw(encode_base64);
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

our @EXPORT = qw(create_api_node add_api start_identity sign start_process stop_process start_gateway
  start_postgrest start_nginx nginx_environment start_module_nginx start_pgbouncer start_service start_swallower start_relay request bytes rest_of
  free_port node_script summary check_openapi foreign_errors);

my $project = 'overten-test';
my $top = dirname(dirname(dirname(abs_path(__FILE__))));
my $output;

# The harness does not know before.
INIT { $output = abs_path($PostgreSQL::Test::Utils::log_path) }
my $scratch = PostgreSQL::Test::Utils::tempdir;

sub free_port
{
	return PostgreSQL::Test::Cluster::get_free_port();
}

# Run one of the scripts of test/http to its end; returns what it prints.
sub node_script
{
	my ($name, @arguments) = @_;
	my ($stdout, $stderr);

	IPC::Run::run [ 'node', "$top/test/http/$name", @arguments ],
	  '>', \$stdout, '2>', \$stderr
	  or die "$name: $stderr";
	chomp $stdout;
	return $stdout;
}

# An ID token of Firebase's form for a person, with claims changed.
sub sign
{
	my ($uid, @changes) = @_;

	return node_script('token.mjs', 'sign', $scratch, $project, $uid,
		@changes);
}

# Start a node with the extension, the roles and a project whose signing keys
# are made here.
sub create_api_node
{
	my ($name, $settings, %init) = @_;

	return add_api(create_node($name, $settings, %init));
}

# Add the same to a node that has the extension.
sub add_api
{
	my ($node) = @_;

	node_script('token.mjs', 'new', $scratch);
	$node->safe_psql('postgres', slurp_file("$top/gateway/roles.sql"));
	$node->safe_psql('postgres',
		"ALTER DATABASE postgres SET overten_auth.firebase_project_id = '$project'");
	$node->safe_psql('postgres', "SELECT overten_load_signing_keys(\$\$"
		  . slurp_file("$scratch/keys.json") . "\$\$)");
	return $node;
}

# Start a program that goes on.  Its output goes to files, out and err.
my @processes;

sub start_process
{
	my ($name, $environment, @command) = @_;
	# Tests that run at the same time share the folder.
	my $file = "$output/" . basename($0, '.pl') . "_$name";
	my ($out, $err) = ("$file.out", "$file.err");
	local %ENV = (%ENV, %$environment);

	my $process = { name => $name, out => $out, err => $err };
	$process->{run} =
	  IPC::Run::start(\@command, '<', '/dev/null', '>', $out, '2>', $err);
	push @processes, $process;
	return $process;
}

# Ask a program to end, and wait for it; returns its exit status.  One that does not
# end within the harness's time limit is a failed check, and is killed.
sub stop_process
{
	my ($process, $signal) = @_;
	my $run = $process->{run};
	my $limit = time + $PostgreSQL::Test::Utils::timeout_default;

	@processes = grep { $_ != $process } @processes;
	$run->signal($signal // 'TERM');
	usleep(10_000) while $run->pumpable && time < $limit;
	if ($run->pumpable)
	{
		fail("$process->{name} ends when it is told to");
		$run->signal('KILL');
	}
	$run->finish;
	return ($run->full_results)[0];
}

END
{
	my $status = $?;
	my @left = reverse @processes;
	stop_process($_) foreach @left;
	$? = $status;
}

# Start the identity service for development, on any port unless PORT is given;
# $process->{url} is where it is.
sub start_identity
{
	my ($name, %environment) = @_;
	my $process = start_process($name, { PORT => 0, %environment }, 'node', "$top/gateway/dev/identity.mjs");

	wait_until('the identity service listens', sub { slurp_file($process->{err}) =~ /listening on (127\.0\.0\.1:\d+)\b/ && ($process->{url} = "http://$1") });
	return $process;
}

# Start the gateway for a node; $process->{url} is where it is.
sub start_gateway
{
	my ($node, $name, %environment) = @_;
	my $process = start_process(
		$name,
		{
			PGHOST => $node->host, PGPORT => $node->port,
			PGDATABASE => 'postgres', PGUSER => 'overten_gateway',
			HOST => '127.0.0.1', PORT => 0, AUTHORIZE_LISTEN => '127.0.0.1:0', %environment
		},
		'node', "$top/gateway/server.mjs");

	wait_until('the gateway listens', sub {
		my $said = slurp_file($process->{err});
		($process->{port}) = $said =~ /listening on \S+:(\d+)/;
		($process->{authorize_port}) = $said =~ /answering \/authorize on \S+:(\d+)/;
		($process->{metrics_port}) = $said =~ /answering \/metrics on \S+:(\d+)/;
		return $process->{port} && $process->{authorize_port}
		  && ($process->{metrics_port} || !$environment{METRICS_LISTEN});
	});
	$process->{url} = "http://127.0.0.1:$process->{port}";
	$process->{authorize_url} = "http://127.0.0.1:$process->{authorize_port}";
	$process->{metrics_url} = "http://127.0.0.1:$process->{metrics_port}" if $process->{metrics_port};
	return $process;
}

# Start the server that follows PostgREST's contract, with gateway/postgrest.conf
# but for the port, how long clients wait for a connection, and what is given.  Two
# of that are no settings: the port, and the version that it is like.
sub start_postgrest
{
	my ($node, $name, %settings) = @_;
	my $port = delete $settings{port} // free_port();
	my $version = delete $settings{version} // 14;
	my $conf = "$output/$name.conf";
	my $host = $node->host;

	my $text = slurp_file("$top/gateway/postgrest.conf");
	$text =~ s/^server-port = 3000$/server-port = $port/m or die;
	$text =~ s/^db-pool-acquisition-timeout = \K3$/$PostgreSQL::Test::Utils::timeout_default/m or die;
	foreach my $setting (sort keys %settings)
	{
		$text =~ s/^$setting = .*\n//m;
		$text .= "$setting = \"$settings{$setting}\"\n";
	}
	PostgreSQL::Test::Utils::append_to_file($conf, $text);

	my $process = start_process($name,
		{ PGRST_DB_URI => "postgres://overten_authenticator@/postgres?host=$host&port=" . $node->port },
		'node', "$top/test/http/postgrest_contract.mjs", $conf, $version);
	wait_until('the contract server listens',
		sub { slurp_file($process->{out}) =~ /listening/ });
	$process->{port} = $port;
	return $process;
}

# The environment of nginx: a library that the module needs if it was built with
# sanitizers (make test-nginx-asan).
sub nginx_environment
{
	my $library = $ENV{OVERTEN_NGINX_PRELOAD} // return ();

	return (LD_PRELOAD => $library, ASAN_OPTIONS => 'detect_leaks=0:abort_on_error=1');
}

# Start nginx with a configuration of gateway/ in which only addresses are
# replaced: texts of the file by others; the lines of nginx_maps.conf that are the
# reader's choice, by names of variables; and the time that PostgREST has, as the
# machine may be slow.  Returns its process, with the folder that it writes to.
sub start_nginx
{
	my ($name, $main, $port, %replace) = @_;
	my $folder = "$output/$name";
	my $text = slurp_file($main =~ m{/} ? "$top/$main" : "$top/gateway/$main");
	my $maps = slurp_file("$top/gateway/nginx_maps.conf");

	foreach my $choice (grep { /^\$/ } keys %replace)
	{
		my $chosen = delete $replace{$choice};
		$maps =~ s/^map "" \Q$choice\E \{\n    default  \K\w+(?=; +# your choice: )/$chosen/m or die "no choice $choice";
	}
	foreach my $old (keys %replace)
	{
		$text =~ s/\Q$old\E/$replace{$old}/ or die "no \"$old\" in $main";
	}
	if (my %environment = nginx_environment())
	{
		# A new binary gets no other variables, and what nginx has in one piece of memory
		# the sanitizer cannot tell apart.
		$text = join('', map { "env $_;\n" } sort keys %environment) . $text;
		$text =~ s/^http \{/http {\n    request_pool_size 256;/m or die;
	}
	mkdir $folder or die;
	$main = basename($main);
	copy($_, $folder) foreach glob("$top/gateway/*.conf");
	unlink "$folder/$main", "$folder/nginx_postgrest.conf", "$folder/nginx_maps.conf";
	PostgreSQL::Test::Utils::append_to_file("$folder/nginx_maps.conf", $maps);
	PostgreSQL::Test::Utils::append_to_file("$folder/$main", $text);
	PostgreSQL::Test::Utils::append_to_file("$folder/nginx_postgrest.conf",
		slurp_file("$top/gateway/nginx_postgrest.conf") =~
		  s/^proxy_\w+_timeout \K\d+/$PostgreSQL::Test::Utils::timeout_default/gmr);
	PostgreSQL::Test::Utils::system_or_bail('openssl', 'req', '-x509', '-batch',
		'-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=localhost',
		'-keyout', "$folder/server.key", '-out', "$folder/server.crt")
	  if $text =~ /ssl_certificate/;

	local $ENV{PATH} = "$ENV{PATH}:/usr/sbin";
	my $process = start_process($name, { nginx_environment() }, 'nginx', '-p', $folder,
		'-c', "$folder/$main", '-e', "$folder/error.log", '-g', 'daemon off;');
	$process->{folder} = $folder;
	wait_until('nginx listens',
		sub { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) });
	return $process;
}

# Start nginx with the module that asks a database, before a service.  Settings replace
# those of nginx/nginx.conf.
sub start_module_nginx
{
	my ($name, $database, $service_port, %replace) = @_;
	my $port = free_port();
	my $process;

	$process = start_nginx($name, 'nginx/nginx.conf', $port,
		'modules/ngx_http' => "$top/nginx/ngx_http",
		'127.0.0.1:8081' => "127.0.0.1:$port",
		'127.0.0.1:9000' => "127.0.0.1:$service_port",
		'host=/run/postgresql dbname=app' => $database =~ tr/'//dr,
		%replace);
	$process->{port} = $port;
	return $process;
}

# Start a program of test/http that says at which port it listens.
sub start_listener
{
	my ($name, $program, @arguments) = @_;
	my $process = start_process($name, {}, 'node', "$top/test/http/$program", @arguments);

	wait_until("$name listens", sub {
		return slurp_file($process->{out}) =~ /listening on (\d+)/
		  && ($process->{port} = $1);
	});
	return $process;
}

# Start the service of test/http/upstream.mjs; with the URL of a gateway it protects
# itself by gateway/protect.mjs.
sub start_service
{
	my ($name, @gateway) = @_;

	return start_listener($name, 'upstream.mjs', @gateway);
}

# Start test/http/swallow.mjs before a port, at which questions get no answers.
sub start_swallower
{
	my ($name, $port) = @_;

	return start_listener($name, 'swallow.mjs', "http://127.0.0.1:$port");
}

# Start test/http/hold_back.mjs before a node, which holds back the answer of a number.
sub start_relay
{
	my ($name, $node, $number) = @_;

	return start_listener($name, 'hold_back.mjs', $node->host . '/.s.PGSQL.' . $node->port, $number);
}

# Start pgbouncer before a node for the gateway's role, or another one, in transaction
# mode and without prepared statements.  Returns its process, with the folder of its socket, and
# its port.
sub start_pgbouncer
{
	my ($node, $name, $role) = @_;
	my $port = free_port();
	my $folder = PostgreSQL::Test::Utils::tempdir_short;
	my ($node_host, $node_port) = ($node->host, $node->port);

	PostgreSQL::Test::Utils::append_to_file("$folder/pgbouncer.ini", <<"EOC");
[databases]
postgres = host=$node_host port=$node_port
[pgbouncer]
listen_addr =
listen_port = $port
unix_socket_dir = $folder
auth_type = trust
auth_file = $folder/users
pool_mode = transaction
default_pool_size = 2
EOC
	PostgreSQL::Test::Utils::append_to_file("$folder/users", sprintf qq("%s" ""\n), $role // 'overten_gateway');
	local $ENV{PATH} = "$ENV{PATH}:/usr/sbin";
	# Versions that do not know the setting cannot do what it is for.
	my ($major, $minor) = `pgbouncer --version` =~ /(\d+)\.(\d+)/;
	PostgreSQL::Test::Utils::append_to_file("$folder/pgbouncer.ini", "max_prepared_statements = 0\n")
	  if $major > 1 || $minor >= 21;
	my $process = start_process($name, {}, 'pgbouncer', "$folder/pgbouncer.ini");
	@{$process}{qw(folder port)} = ($folder, $port);
	wait_until('pgbouncer listens', sub { -S "$folder/.s.PGSQL.$port" });
	return $process;
}

# One request by curl.  Headers are whole lines.  Returns status, headers (an
# array for each name, in lower case), body, and the version of HTTP.
sub request
{
	my ($base, $method, $path, $headers, $body, @options) = @_;
	my ($stdout, $stderr);
	my @command = (
		'curl', '--silent', '--show-error', '--include', '--path-as-is',
		'--globoff', '--max-time', 60, '--noproxy', '*');

	push @command, $method eq 'HEAD' ? '--head' : ('--request', $method);
	# curl would say that a body is a form.
	push @command, ('--header', 'Content-Type:')
	  unless grep { /^Content-Type:/i } @{ $headers // [] };
	push @command, map { ('--header', $_) } @{ $headers // [] };
	push @command, '--data-binary', '@-' if defined $body;
	IPC::Run::run [ @command, @options, "$base$path" ],
	  '<', \($body // ''), '>', \$stdout, '2>', \$stderr;
	my $response = parse_response($stdout, $stderr);
	note_exchange($method, $path, $body, $response) if $path =~ m{^/api/v1/} && defined $response->{status};
	note_error($base, $method, $path, $response);
	return $response;
}

# Keep an exchange for check_openapi().
my @exchanges;

sub note_exchange
{
	my ($method, $path, $body, $response) = @_;

	push @exchanges, encode_json({
		method => $method, path => $path, status => 0 + $response->{status},
		headers => $response->{headers},
		sent => encode_base64($body // '', ''),
		body => encode_base64($response->{body}, '')
	});
}

# What the OpenAPI document does not describe of all exchanges so far, or
# describes and has not been seen.
sub check_openapi
{
	my $file = "$output/exchanges";

	PostgreSQL::Test::Utils::append_to_file($file, join("\n", @exchanges));
	return node_script('check_openapi.mjs', $file);
}

# An error must be the API's own, whoever it comes from: PostgREST and nginx have
# errors of other forms, which are kept here by where they came from.
my %foreign;
my $codes = join '|', qw(not_found method_not_allowed unsupported_media_type
  payload_too_large missing_credentials invalid_request invalid_api_key
  invalid_token expired_token auth_unavailable invalid_json invalid_parameter
  organization_not_found key_not_found key_revoked disabled_by_operator
  key_not_active already_rotated
  already_signed_up org_limit_reached
  api_access_disabled key_limit_reached already_done idempotency_key_reused
  anonymous_not_allowed email_not_verified
  organization_closed member_not_found last_member invitation_not_found
  already_member invitation_limit_reached
  expired_api_key disabled_api_key address_not_allowed insufficient_scope rate_limited
  service_unavailable internal_error);

sub note_error
{
	my ($base, $method, $path, $response) = @_;
	my $status = $response->{status} // 0;
	my %headers = %{ $response->{headers} };
	my $is_own = join(' ', @{ $headers{'cache-control'} // [] }) eq 'no-store'
	  && ($method eq 'HEAD' || $response->{body} =~
		/^\{"error":\{"code":"(?:$codes)","message":"(?:[^"\\]|\\.)+"(?:,"(?:param|org_id|key_id)":"\w+")*\}\}$/)
	  && join(' ', @{ $headers{'content-type'} // [] }) =~ /^(?:application\/json)?$/;

	push @{ $foreign{$base} }, "$method $path: $status " . substr($response->{body}, 0, 200)
	  unless $is_own || $status =~ /^20/;
}

# The errors from there that were not the API's own.
sub foreign_errors
{
	my ($base) = @_;

	return @{ $foreign{$base} // [] };
}

# The last response in a text, as 100 Continue may come before it.
sub parse_response
{
	my ($text, $stderr) = @_;
	my %response = (headers => {}, error => $stderr // '');

	while ($text =~ s{^HTTP/(\S+) (\d+)[^\r\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n}{})
	{
		my $lines = $3;

		($response{version}, $response{status}, $response{headers}) =
		  ($1, $2, {});
		foreach my $line (split /\r\n/, $lines)
		{
			my ($name, $value) = split /: */, $line, 2;
			push @{ $response{headers}{ lc $name } }, $value;
		}
	}
	$response{body} = $text;
	return \%response;
}

# Send bytes as they are, and read all that comes until the server closes.
sub bytes
{
	my ($port, $text, %options) = @_;
	my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
		PeerPort => $port) or die "cannot connect: $!";

	$socket->syswrite($text);
	$socket->shutdown(1) if $options{half};
	my $response = parse_response(rest_of($socket));
	note_error("http://127.0.0.1:$port", $text =~ /^(\w+) (\S{1,80})/ ? ($1, $2) : ('?', '?'), $response);
	return $response;
}

# All that still comes on a connection.
sub rest_of
{
	my $socket = shift;
	my $text = '';

	while ($socket->sysread(my $more, 65536)) { $text .= $more }
	return $text;
}

# Status and code of a response, and the parameter at fault if one is.
sub summary
{
	my $response = shift;
	my $answer = eval { decode_json($response->{body}) };
	my $error = ref $answer eq 'HASH' ? $answer->{error} // {} : {};

	return join ' ', $response->{status} // 'none', $error->{code} // (),
	  $error->{param} // ();
}

1;
