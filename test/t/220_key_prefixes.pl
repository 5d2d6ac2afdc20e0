
# The prefixes of keys as a server's setting: from its start, by a reload, for a
# database; test keys for a role, in the cache that all sessions share.
# pg_regress neither restarts the server nor preloads the library.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = create_node(
	'prefixes', <<'EOC');
shared_preload_libraries = 'overten_auth'
overten_auth.databases = 'postgres'
overten_auth.key_prefixes = 'acme_, test:acme_test_'
EOC

# Change the list of the server, for sessions that go on, too.
sub reload_with
{
	my ($list) = @_;
	my $from = -s $node->logfile;

	$node->append_conf('postgresql.conf', "overten_auth.key_prefixes = '$list'");
	$node->reload;
	wait_until("the list is $list", sub {
		slurp_file($node->logfile, $from) =~ /parameter "overten_auth.key_prefixes" (changed|cannot)|invalid value for parameter "overten_auth.key_prefixes"/ });
	return;
}

# A brand from the start
my $org = create_org($node, 'Branded');
my $session = $node->background_psql('postgres');
my ($secret, $key) = mint($node, $org);
like($secret, qr/^acme_[0-9A-Za-z]{28}$/, 'a new key has the prefix of the server');
is(verify($session, $secret), $key, 'and is accepted');

# Another one by a reload: the old one stays, until it is taken out of the list.
reload_with('newacme_, acme_, test:acme_test_');
my ($new_secret, $new_key) = mint($session, $org);
like($new_secret, qr/^newacme_[0-9A-Za-z]{28}$/, 'after a reload, new keys have the new prefix, in old sessions too');
is(verify($session, $secret), $key, 'old keys are still accepted');
reload_with('newacme_, test:acme_test_');
is(verify($session, $secret), '', 'without their prefix, old keys are refused in a session that has verified them');
is(verify($node, $secret), '', 'and in a new one');
is(verify($session, $new_secret), $new_key, 'others are not');
is(ask($node, "SELECT problem FROM overten_check() WHERE subject = 'overten_auth.key_prefixes'"),
	'Active keys with a prefix that is not in the list, and thus refused: 1 (acme_).', 'overten_check tells how many are refused');
my ($rotated, $rotated_key) = split /\|/, ask($node, "SELECT secret, key_id FROM overten_rotate_key('$org', '$key')");
like($rotated, qr/^newacme_/, 'a rotation gives such a key a prefix that is accepted');

# A list that is wrong changes nothing, and a server does not start with it.
reload_with('newacme');
is(verify($session, $new_secret), $new_key, 'a wrong list changes nothing');
$node->stop;
is($node->start(fail_ok => 1), 0, 'but a server does not start with it');
like(slurp_file($node->logfile), qr/FATAL:.*invalid value for parameter "overten_auth.key_prefixes": "newacme"/, 'and says so');
$node->append_conf('postgresql.conf', "overten_auth.key_prefixes = 'newacme_, acme_, test:acme_test_'");

# So it is with the other lists: the default would mean something else.
foreach ([ key_features => 'expiry, wings' ], [ trusted_proxies => '10.0.0.0/8, proxy' ])
{
	my ($name, $value) = @$_;

	$node->append_conf('postgresql.conf', "overten_auth.$name = '$value'");
	is($node->start(fail_ok => 1), 0, "a server does not start with a wrong list of $name");
	like(slurp_file($node->logfile), qr/FATAL:.*invalid value for parameter "overten_auth.$name": "$value"/, 'and says so');
	$node->append_conf('postgresql.conf', "overten_auth.$name = ''");
}
$node->start;
$session = $node->background_psql('postgres');
is(verify($session, $secret), $key, 'a prefix that is in the list again revives its keys');

# Test keys are good for one role and not for another, though both find them in
# the same cache.
ask($node, <<'EOQ');
CREATE ROLE staging LOGIN;
ALTER ROLE staging SET overten_auth.accept_test_keys = on;
CREATE ROLE production LOGIN;
GRANT EXECUTE ON FUNCTION overten_verify_key, overten_verify_key_digest, overten_key_checksum_ok TO staging, production;
EOQ
my ($test_secret, $test_key) = split /\|/,
  ask($node, "SELECT secret, key_id FROM overten_mint_key('$org', 'test', environment => 'test')");
my %session = map { $_ => $node->background_psql('postgres', extra_params => [ '-U', $_ ]) } 'staging', 'production';
foreach my $time (1, 2)
{
	is(verify($session{staging}, $test_secret), $test_key, "staging accepts a test key, $time");
	is(verify($session{production}, $test_secret), '', "production does not, $time");
	is(ask($session{production}, "SELECT count(*) FROM overten_verify_key_digest(sha256('$test_secret'))"), 0, "nor by its digest, $time");
	is(verify($session{production}, $secret), $key, "but live keys, $time");
}
cmp_ok(ask($node, 'SELECT cache_hits FROM overten_stat'), '>', 0, 'from the shared cache');

# A database has its own list.
ask($node, 'CREATE DATABASE other');
ask($node, q{ALTER DATABASE other SET overten_auth.key_prefixes = 'other_'});
ask([ $node, 'other' ], 'CREATE EXTENSION overten_auth CASCADE');
my ($other_secret) = mint([ $node, 'other' ], create_org([ $node, 'other' ], 'Other'));
like($other_secret, qr/^other_[0-9A-Za-z]{28}$/, 'a database has a list of its own');

# Parallel workers have the session's list.
my $parallel = $node->pg_version >= 16 ? 'debug_parallel_query' : 'force_parallel_mode';
is(ask($session, <<"EOQ"), 't', 'and a parallel worker that of its session');
SET overten_auth.key_prefixes = 'other_';
SET $parallel = on;
SELECT overten_key_checksum_ok('$other_secret');
EOQ

unlike(slurp_file($node->logfile), qr/(?:acme|test|other)_[0-9A-Za-z]{5}/, 'no secret is in the log');
$node->stop;
done_testing();
