
# Reads the fenced blocks of a Markdown page, and runs them in order as a reader
# would: one psql session for a page, sh in a folder that has what the page takes
# for granted, and for configurations the program that reads them.
#
# The functions with a page as their argument take what open_page() returns.

package DocumentTest;

use strict;
use warnings FATAL => 'all';

use Cwd qw(abs_path);
use Exporter 'import';
use File::Basename qw(dirname);
use File::Copy qw(copy);
use GatewayTest;
use IO::Socket::INET;
use IPC::Run;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(blocks_of open_page close_page run_block same_output);

my $top = dirname(dirname(dirname(abs_path(__FILE__))));
my $end = 'END OF THE BLOCK';

# A page's blocks: { line, language, text }, and, of the comment before it,
# not_run, until or file.
sub blocks_of
{
	my ($file) = @_;
	my ($block, $indent, @blocks, %comment);

	foreach my $line (split /\n/, slurp_file($file), -1)
	{
		my $number = ++$comment{line};

		if ($block)
		{
			if ($line =~ /^\s*```\s*$/)
			{
				push @blocks, $block;
				undef $block;
				next;
			}
			$line =~ s/^ {0,$indent}//;
			$block->{text} .= "$line\n";
		}
		elsif ($line =~ /^(\s*)```(\S*)$/)
		{
			$indent = length $1;
			$block = { line => $number, language => $2, text => '' };
			$block->{$_} = delete $comment{$_} foreach grep { exists $comment{$_} } 'not_run', 'until', 'file';
		}
		else
		{
			delete @comment{ 'not_run', 'until', 'file' };
			$comment{not_run} = $1 if $line =~ /^\s*<!-- not run: (\S.*) -->$/;
			$comment{file} = $1 if $line =~ /^\s*<!-- file: (\S+) -->$/;
			$comment{until} = $1 if $line =~ /^\s*<!-- run until: (\S.*) -->$/;
		}
	}
	die "$file: a block is not closed" if $block;
	return @blocks;
}

# A server with the database app, and a folder with what the page's commands
# read: the gateway, contrib, signing keys and a token for the project that it names.
sub open_page
{
	my ($name, $file) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	my $folder = PostgreSQL::Test::Utils::tempdir;
	my ($project) = slurp_file($file) =~ /firebase_project_id = '([^']*)'/;

	$node->init;
	$node->append_conf('postgresql.conf', "log_statement = none\noverten_auth.signing_keys_command = ''\n");
	$node->start;
	$node->safe_psql('postgres', 'CREATE DATABASE app');
	# README's first command creates the extension.
	$node->safe_psql('app', 'CREATE EXTENSION overten_auth CASCADE') unless $name eq 'README';

	foreach my $part ('gateway', 'contrib')
	{
		symlink "$top/$part", "$folder/$part" or die "symlink: $!";
	}
	# No request leaves this machine, and one that is refused is a failure.
	append_to_file("$folder/.curlrc", "fail\nsilent\nshow-error\nnoproxy = \"*\"\n");
	my %environment = (
		$node->_get_env(), HOME => $folder, TMPDIR => $folder,
		PATH => "$ENV{PATH}:/usr/sbin");
	delete $environment{PGDATABASE};
	if ($project)
	{
		node_script('token.mjs', 'new', $folder);
		$environment{FIREBASE_TOKEN} = node_script('token.mjs', 'sign', $folder, $project, 'ada');
	}

	my $page = { name => $name, node => $node, folder => $folder, environment => \%environment,
		processes => [], port => free_port(), identity_port => free_port(), authorize_port => free_port(), metrics_port => free_port() };
	$environment{AUTHORIZE_LISTEN} = "127.0.0.1:$page->{authorize_port}";
	return $page;
}

# The page's session.
sub start_psql
{
	my ($page) = @_;
	local %ENV = %{ $page->{environment} };

	$page->{timer} = IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default);
	$page->{psql} = IPC::Run::start([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', 'app' ],
		'<', \$page->{in}, '>', \$page->{out}, '2>', \$page->{err},
		init => sub { chdir $page->{folder} or die "chdir: $!" }, $page->{timer});
	return;
}

sub close_page
{
	my ($page) = @_;

	stop_process($_) foreach reverse @{ $page->{processes} };
	if ($page->{psql})
	{
		# A server that was restarted meanwhile holds the other end of its stdin, so
		# it would wait for more.
		$page->{in} .= "\\q\n";
		eval { $page->{psql}->finish };
	}
	$page->{node}->stop;
	return;
}

# What a page says of the reader's machine, as it is here.
sub adapt
{
	my ($page, $text) = @_;
	my $user = getpwuid $>;
	my $group = getgrgid $);
	my $host = $page->{node}->host;

	$text =~ s{/etc/overten_auth}{$page->{folder}/etc}g;
	$text =~ s{-o postgres -g postgres}{-o $user -g $group}g;
	$text =~ s{PGHOST=/run/postgresql}{PGHOST=$host}g;
	$text =~ s{PORT=8080|127\.0\.0\.1:\K8080}{$& eq 'PORT=8080' ? "PORT=$page->{port}" : $page->{port}}ge;
	$text =~ s{\b9099\b}{$page->{identity_port}}g;
	$text =~ s{\b9464\b}{$page->{metrics_port}}g;
	$text =~ s{\b8079\b}{$page->{authorize_port}}g;
	$text =~ s{https://api\.example\.com}{http://127.0.0.1:$page->{port}}g;
	return $text;
}

# Each returns whether the block ran, what it printed, and what is wrong.

sub run_sql
{
	my ($page, $block) = @_;

	write_staged_keys($page) if $block->{text} =~ /keys\.csv/;
	start_psql($page) unless $page->{psql};
	$page->{timer}->start;
	@{$page}{qw(in out err)} = ("$block->{text}\n\\echo $end\n", '', '');
	my $ran = eval {
		$page->{psql}->pump until $page->{out} =~ /^\Q$end\E$/m || !$page->{psql}->pumpable;
		1;
	} && $page->{out} =~ s/^\Q$end\E\n//m;
	return ($ran, $page->{out}, $page->{err});
}

# What an older system has exported: keys of the page's org.
sub write_staged_keys
{
	my ($page) = @_;

	append_to_file("$page->{folder}/keys.csv",
		$page->{node}->safe_psql('app', q{COPY (SELECT org_id, 'imported ' || n, encode(sha256(n::text::bytea), 'hex'), 'sk_live_0000',
			timestamptz '2020-01-01 00:00+00' FROM overten_auth.orgs, generate_series(1, 3) n) TO STDOUT (FORMAT csv)}) . "\n");
	return;
}

sub run_sh
{
	my ($page, $block) = @_;
	my ($out, $err);
	local %ENV = %{ $page->{environment} };
	my $text = adapt($page, $block->{text});

	if (defined $block->{until})
	{
		# Whoever ends the shell ends what it has started.
		my $process = start_process("$page->{name}_$block->{line}", {}, 'setsid', 'sh', '-c',
			"cd '$page->{folder}' || exit\ntrap 'trap \"\" TERM; kill 0; wait; exit' TERM\n{\n$text\n} &\nwait");

		push @{ $page->{processes} }, $process;
		wait_until("$page->{name} says $block->{until}",
			sub { slurp_file($process->{out}) . slurp_file($process->{err}) =~ /\Q$block->{until}\E/ });
		return (1, '', '');
	}
	my $ran = IPC::Run::run([ 'sh', '-e', '-c', $text ], '<', \undef, '>', \$out, '2>', \$err,
		init => sub { chdir $page->{folder} or die "chdir: $!" });
	return ($ran, $out, $err);
}

# The first line says whose configuration it is.
sub run_ini
{
	my ($page, $block) = @_;
	my $node = $page->{node};
	my ($file) = $block->{text} =~ /^# (\w+\.conf)\b/;

	if ($file eq 'postgresql.conf')
	{
		$node->append_conf($file, adapt($page, $block->{text}));
		$node->restart;
		my $wrong = $node->safe_psql('postgres', q{SELECT string_agg(name || ': ' || error, E'\n') FROM pg_file_settings WHERE error IS NOT NULL});
		my ($ran, undef, $err) = (1, '', '');
		# psql has lost its connection.
		($ran, undef, $err) = run_sql($page, { text => '\\connect app' }) if $page->{psql};
		return ($ran && $wrong eq '', '', $wrong . $err);
	}
	if ($file eq 'pg_hba.conf' || $file eq 'pg_ident.conf')
	{
		my $view = $file eq 'pg_hba.conf' ? 'pg_hba_file_rules' : 'pg_ident_file_mappings';
		my $count = $node->safe_psql('postgres', "SELECT count(*) FROM $view");

		$node->append_conf($file, $block->{text});
		my $wrong = $node->safe_psql('postgres', "SELECT string_agg(error, E'\\n') FROM $view");
		return ($wrong eq '' && $node->safe_psql('postgres', "SELECT count(*) FROM $view") == $count + 1, '', $wrong);
	}
	if ($file eq 'postgrest.conf')
	{
		my ($function) = $block->{text} =~ /^db-pre-request = "([\w.]+)"$/m
		  or return (0, '', 'it names no function');

		# A function that PostgREST's role may execute.
		$node->safe_psql('app', slurp_file("$top/gateway/roles.sql"));
		my ($status, undef, $err) = $node->psql('app', "SET ROLE overten_web; SELECT $function()");
		return ($status == 0, '', $err);
	}
	return (0, '', "nothing here reads $file");
}

# nginx itself says whether it would start with it.
sub run_nginx
{
	my ($page, $block) = @_;
	my $folder = PostgreSQL::Test::Utils::tempdir;
	my $port = free_port();
	my ($out, $err);

	copy($_, $folder) or die "copy: $!" foreach glob "$top/gateway/nginx_*.conf";
	append_to_file("$folder/nginx.conf", <<"EOC");
pid nginx.pid;
events { }
http {
include nginx_maps.conf;
access_log off;
client_body_temp_path client;
proxy_temp_path proxy;
fastcgi_temp_path fastcgi;
uwsgi_temp_path uwsgi;
scgi_temp_path scgi;
upstream overten_gateway { server 127.0.0.1:8080; }
upstream service { server 127.0.0.1:9000; }
server {
listen 127.0.0.1:$port;
$block->{text}
}
}
EOC
	local %ENV = %{ $page->{environment} };
	my $ran = IPC::Run::run([ 'nginx', '-t', '-q', '-p', $folder, '-c', "$folder/nginx.conf", '-e', "$folder/error.log" ],
		'>', \$out, '2>', \$err);
	return ($ran, '', $err);
}

# A program that serves on port 9000, and lets in who has a key.
sub run_js
{
	my ($page, $block) = @_;
	my $port = free_port();
	my $text = adapt($page, $block->{text});
	my $folder = PostgreSQL::Test::Utils::tempdir;
	my $app = [ $page->{node}, 'app' ];
	my ($secret) = mint($app, create_org($app, 'Readers'));

	$text =~ s/\b9000\b/$port/ or return (0, '', 'there is no port 9000');
	append_to_file("$folder/program.mjs", $text);
	copy("$top/gateway/protect.mjs", $folder) or die "copy: $!";
	push @{ $page->{processes} }, start_process("$page->{name}_$block->{line}", {}, 'node', "$folder/program.mjs");
	wait_until('the program listens', sub { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) });
	my $with = request("http://127.0.0.1:$port", 'GET', '/', ["Authorization: Bearer $secret"]);
	my $without = request("http://127.0.0.1:$port", 'GET', '/', []);
	return ($with->{status} == 200 && $with->{body} eq "Hello, Readers\n" && $without->{status} == 401,
		'', "with a key $with->{status}, without $without->{status}");
}

my %runs = (sql => \&run_sql, sh => \&run_sh, ini => \&run_ini, nginx => \&run_nginx, js => \&run_js);

# Run a block, by its language.  Returns whether it ran, its output, and what is
# wrong.
sub run_block
{
	my ($page, $block) = @_;
	my $run = $runs{ $block->{language} };

	return $run ? $run->($page, $block) : (0, '', "nothing runs a block of \"$block->{language}\"");
}

# A page's output and the real one, without what differs from run to run.
sub same_output
{
	my ($shown, $real) = @_;

	foreach ($shown, $real)
	{
		s/\b(org|key)_[0-9A-Za-z]{20}\b/$1_ID/g;
		s/\bsk_live_[0-9A-Za-z]{28}\b/SECRET/g;
		s/\bsk_live_[0-9A-Za-z]{4}\b/PREFIX/g;
		s/\bwhsec_[0-9A-Za-z+\/=]+/WEBHOOK_SECRET/g;
		s/\bv1,[0-9A-Za-z+\/]{43}=/SIGNATURE/g;
		s/\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d)/TIME/g;
		s/ +/ /g;
		s/-{2,}/-/g;
		s/ $//mg;
		s/^ //mg;
		s/\n{2,}/\n/g;
		s/^\n+//;
		s/\n*$/\n/;
	}
	return ($shown, $real);
}

1;
