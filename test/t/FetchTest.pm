# What the tests of fetching share: an HTTPS server whose answers are told by the
# request, a node whose command to fetch with is a file, and what it says.

package FetchTest;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use FirebaseTokens;
use FindBin;
use IPC::Run;
use JSON::PP qw(decode_json);
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(REFRESH_FUNCTION $asker $dir $key $next $token $next_token $certificate $port @nap
  fetch_settings create_fetch_node write_file curl command query refresh status
  is_good processes log_size logged start_psql finish_psql);

# SQL: what asking for a fetch says, a number or "SQLSTATE detail".
use constant REFRESH_FUNCTION => <<'SQL';
CREATE FUNCTION refresh() RETURNS text LANGUAGE plpgsql AS $$
DECLARE detail text;
BEGIN
	RETURN overten_refresh_signing_keys();
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN SQLSTATE || ' ' || detail;
END $$;
SQL

our $dir;

# The harness does not know before.
INIT { $dir = PostgreSQL::Test::Utils::tempdir }

our ($key, $next) = (new_rsa(), new_rsa());
our $token = token($key, header(), claims());
our $next_token = token($next, header(kid => 'key-2'), claims());
our $certificate = certificate($key);

# How long commands sleep: seconds by which they are known, here and in no other run.
our @nap = map { "7" . $$ . $_ } 0 .. 9;

# The ports of the HTTPS server, each with a way of its own.
our $port;

# Where fetches and states are asked for: a session, if the server is not stopped.
our $asker;

my ($server, $node, $default);

END { my $status = $?; $server->kill_kill if $server; $? = $status; }

# Replace a file that the server or the command reads.
sub write_file
{
	my ($name, $content) = @_;
	open my $file, '>:raw', "$dir/$name.new" or die $!;
	print $file $content;
	close $file or die $!;
	rename "$dir/$name.new", "$dir/$name" or die $!;
}

sub start_server
{
	system_or_bail("$FindBin::RealBin/../https/make-certificates", $dir);
	write_file('keys.json', json({ 'key-1' => $certificate }));
	write_file('requests.log', '');
	$server = IPC::Run::start([ 'node', "$FindBin::RealBin/../https/server.mjs", $dir ], '>', "$dir/server.out", '2>&1');
	wait_until('the server listens', sub { -e "$dir/ports.json" });
	$port = decode_json(slurp_file("$dir/ports.json"));
	return;
}

# The setting runs a file, so that most tests need no reload.
sub fetch_settings
{
	return <<CONF;
shared_preload_libraries = 'overten_auth'
overten_auth.databases = 'postgres, other'
overten_auth.firebase_project_id = '${\PROJECT}'
overten_auth.signing_keys_command = '. "$dir/command"'
timezone = UTC
CONF
}

# The node that the functions below ask, and its server of keys.
sub create_fetch_node
{
	my ($name) = @_;

	start_server();
	write_file('command', 'exit 1');
	$node = create_node($name, fetch_settings(), allows_streaming => 1);
	$default = query(q{SELECT boot_val FROM pg_settings WHERE name = 'overten_auth.signing_keys_command'});
	query(REFRESH_FUNCTION . OUTCOME_FUNCTION);
	return $node;
}

# The default command, with another address and authority.  It has nearly the 15 s
# that the worker gives it, as the machine may be slow, or less patience.
sub curl
{
	my ($path, $name, %how) = @_;
	my $url = $path =~ /^https?:/ ? $path : "https://localhost:$port->{$name // 'good'}$path";
	my $command = $default;
	$command =~ s{https://www\.googleapis\.com/\S+}{'$url'} or die $command;
	my $patience = $how{patience} // 14;
	$command =~ s{--max-time 10}{--max-time $patience} or die $command;
	return "$command --noproxy localhost --cacert $dir/ca.pem " . ($how{options} // '');
}
sub command { write_file('command', "$_[0]\n"); }

sub query { return $node->safe_psql('postgres', $_[0]); }
sub refresh { command($_[0]) if defined $_[0]; return ask($asker // $node, 'SELECT refresh()'); }
sub status { return ask($asker // $node, "SELECT $_[0] FROM overten_status()"); }
sub is_good { return is(query("SELECT outcome('$_[0]')"), 'ok', $_[1]); }

# How many processes have these words as their command line?
sub processes
{
	my $words = join "\0", @_;
	my $count = 0;
	for my $file (glob '/proc/[0-9]*/cmdline')
	{
		open my $in, '<', $file or next;
		my $line = do { local $/; <$in> } // '';
		$count++ if $line eq "$words\0";
	}
	return $count;
}
sub log_size { return -s $node->logfile; }
sub logged { return slurp_file($node->logfile, $_[0]); }
sub start_psql
{
	my ($sql) = @_;
	my %psql = (out => '');
	$psql{run} = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', $sql ],
		'>', \$psql{out}, '2>&1');
	return \%psql;
}
sub finish_psql { my ($psql) = @_; $psql->{run}->finish; return $psql->{out} =~ s/\n\z//r; }

1;
