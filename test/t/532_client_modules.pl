
# The modules of docs/clients.md, each with its client library: what they make of good
# and refused keys, of errors and of a server that is away, and that no secret is in the
# server log, in pg_stat_activity or in what the program itself logs, in whatever
# way a call fails.  pg_regress knows only psql.
#
# OVERTEN_CLIENTS=all runs those, too, whose compilers take long to install.

use strict;
use warnings FATAL => 'all';

use Cwd qw(abs_path);
use Digest::SHA qw(sha256_hex);
use FindBin;
use lib $FindBin::RealBin;
use ClientTest;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $programs = abs_path("$FindBin::RealBin/../clients");
my $all = ($ENV{OVERTEN_CLIENTS} // '') eq 'all';
my $node = create_client_node('modules', '');
my $app = [ $node, 'app' ];
my $port = $node->port;
my $folder = PostgreSQL::Test::Utils::tempdir;

# Debian's, which has the packages.
my $python = '/usr/bin/python3';
my %commands = (
	'node_postgres.mjs' => [ 'node', "$programs/ask.mjs" ],
	'postgres_js.mjs' => [ 'node', "$programs/ask.mjs" ],
	'psycopg3.py' => [ $python, "$programs/ask.py" ],
	'psycopg2_digest.py' => [ $python, "$programs/ask.py" ],
	'asyncpg_pool.py' => [ $python, "$programs/ask.py" ],
	'sqlalchemy_engine.py' => [ $python, "$programs/ask.py" ],
	# As without Debian's configuration, where stack traces show arguments.
	'keys.php' => [ 'php', '-d', 'zend.exception_ignore_args=0', '-d', 'zend.exception_string_param_max_len=15', "$programs/ask.php" ],
	'keys.rb' => [ 'ruby', "$programs/ask.rb" ],
	'Keys.java' => [ "$programs/run-java" ],
	'keys.go' => [ "$programs/run-go" ]);
my %takes_long = map { $_ => 1 } 'Keys.java', 'keys.go';

# Those that write values into the statement if they are told to, as the page says.
my @can_be_unbound = ('psycopg3.py', 'psycopg2_digest.py', 'sqlalchemy_engine.py', 'keys.php', 'Keys.java');

# Those that are not asked for keys.
my %other = map { $_ => 1 } 'sign_up.mjs', 'uid.mjs', 'express.mjs', 'flask_service.py';

my %documented = documented();
is_deeply([ sort grep { !$other{$_} } keys %documented ], [ sort keys %commands ], 'every module of the page is run');

my @files = grep { $all || !$takes_long{$_} } sort keys %commands;
my %clients;
foreach my $file (@files)
{
	my $path = write_module($folder, $file, $file eq 'Keys.java' ? ('127.0.0.1:5432' => "127.0.0.1:$port") : ());

	$clients{$file} = start_client($node, $file, @{ $commands{$file} }, $path,
		$file eq 'Keys.java' ? "jdbc:postgresql://127.0.0.1:$port/app" : ());
}

is(ask($app, "SELECT count(*) FROM overten_check() WHERE subject ~ '\\mservice\\M'"), '0', 'nothing is wrong with the role of the page');
ask($app, 'GRANT SELECT ON overten_auth.api_keys TO service');
isnt(ask($app, "SELECT count(*) FROM overten_check() WHERE subject ~ '\\mservice\\M'"), '0', 'with SELECT on digests there is');
ask($app, 'REVOKE SELECT ON overten_auth.api_keys FROM service');

my $org = create_org($app, 'Clients');
my ($good, $key) = mint($app, $org);
my ($bad, $bad_key) = mint($app, $org);
ask($app, "SELECT overten_revoke_key('$org', '$bad_key')");

sub unknown_key
{
	return 'sk_live_' . join '', map { (0 .. 9, 'A' .. 'Z', 'a' .. 'z')[ rand 62 ] } 1 .. 28;
}

my $activity = "SELECT string_agg(query, E'\\n') FROM pg_stat_activity WHERE usename = 'service'";
my $locker = $node->background_psql('app');
my %secrets;

foreach my $file (@files)
{
	my $client = $clients{$file};
	my $from = -s $node->logfile;
	my $minted;

	# Answers
	is(ask_client($client, 'verify', $good), "row $key $org free", "$file: a good key");
	is(ask_client($client, 'verify', $bad), 'none', "$file: a revoked key");
	like(ask_client($client, 'mint', $org, "O'Brien's \\ \$1 %s"), qr/^row key_\w+ sk_live_\w+$/, "$file: a new key");
	($minted) = $client->{out} =~ /(sk_live_\w+)/;
	like(ask_client($client, 'verify', $minted // ''), qr/^row key_\w+ $org free$/, "$file: it is accepted");
	is(ask_client($client, 'mint', 'org_00000000000000000000', 'x'), 'none', "$file: an unknown org");
	like(ask_client($client, 'mint', $org, ''), qr/^invalid .*name must have/, "$file: a bad name, and which rule it breaks");

	# Errors with a secret
	my @odd = (unknown_key(), unknown_key(), unknown_key());
	isnt(ask_client($client, 'verify', "$odd[0]\0"), '', "$file: it goes on after a NUL");
	unlike($client->{out}, qr/^row/, "$file: which is not accepted");
	ask($app, 'REVOKE EXECUTE ON FUNCTION overten_verify_key(text), overten_verify_key_digest(bytea) FROM service');
	is(ask_client($client, 'verify', $odd[1]), 'error 42501', "$file: an error is none of these");
	ask($app, 'GRANT EXECUTE ON FUNCTION overten_verify_key(text), overten_verify_key_digest(bytea) TO service');

	ask($locker, 'BEGIN; LOCK overten_auth.api_keys IN ACCESS EXCLUSIVE MODE');
	send_to($client, 'verify', $odd[2]);
	$node->poll_query_until('app', "SELECT count(*) = 1 FROM pg_stat_activity WHERE usename = 'service' AND wait_event_type = 'Lock'")
	  or die "$file does not wait";
	my $running = ask($app, $activity);
	ask($app, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = 'service' AND wait_event_type = 'Lock'");
	is(answer_of($client), 'error 57014', "$file: a statement that is canceled");
	ask($locker, 'COMMIT');

	# Secrecy
	my @secrets = ($good, $bad, $minted, @odd);
	my $log = slurp_file($node->logfile, $from);
	like($log, qr/overten_verify_key/, "$file: its statements are logged");
	like($running, qr/overten_verify_key/, "$file: and shown");
	is(leaks_in($log, @secrets), 0, "$file: no secret is in the server log");
	is(leaks_in($running . ask($app, $activity), @secrets), 0, "$file: nor in pg_stat_activity");
	is(leaks_in(slurp_file($client->{err}), @secrets), 0, "$file: nor in what it logs itself");
	my $digests = grep { index($log, sha256_hex($_)) >= 0 } @secrets;
	is($digests > 0 ? 1 : 0, $file eq 'psycopg2_digest.py' ? 1 : 0, "$file: whether a digest is in the log");
	$secrets{$file} = \@secrets;
}

# The same search finds what is not bound.
foreach my $file (grep { $clients{$_} } @can_be_unbound)
{
	my $from = -s $node->logfile;
	my $unknown = unknown_key();

	is(ask_client($clients{$file}, 'unbound', $unknown), 'none', "$file: not bound");
	is(leaks_in(slurp_file($node->logfile, $from), $unknown), 1, "$file: that is in the log");
}
my $as_bytes = unknown_key();
like(ask_client($clients{'asyncpg_pool.py'}, 'unbound', $as_bytes), qr/^error/, 'asyncpg: a value of a wrong type is an error');
is(leaks_in(slurp_file($clients{'asyncpg_pool.py'}{err}), $as_bytes), 1, 'asyncpg: which shows it');
my $literal = unknown_key();
my $session = $node->background_psql('app', extra_params => [ '-U', 'service' ]);
ask($session, "SELECT count(*) FROM overten_verify_key('$literal')");
is(leaks_in(ask($app, $activity), $literal), 1, 'a literal is in pg_stat_activity');
$session->quit;
$locker->quit;

# A server that is away, and comes back
$node->stop('fast');
send_to($clients{$_}, 'verify', $good) foreach @files;
like(answer_of($clients{$_}), qr/^error/, "$_: without the server there is an error") foreach @files;
$node->start;
foreach my $file (@files)
{
	my @answers;

	do
	{
		push @answers, ask_client($clients{$file}, 'verify', $good);
	} until ($answers[-1] =~ /^row/ || @answers == 11);
	is($answers[-1], "row $key $org free", "$file: it recovers");
	is(scalar(grep { /^(?:none|invalid)/ } @answers), 0, "$file: and takes no error for a refusal");
	is(leaks_in(slurp_file($clients{$file}{err}), @{ $secrets{$file} }), 0, "$file: there is still no secret in what it logs");
	end_client($clients{$file});
}

$node->stop;
done_testing();
