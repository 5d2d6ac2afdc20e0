
# Keys that expire, that are disabled, and that have allowed addresses, where
# sessions share a cache, and on a standby: what is cached there does not outlive
# an expiry, and the client's address is found behind proxies.  pg_regress has
# no preloaded library, no second server, and no session over TCP.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use UsageTest qw(REQUEST_FUNCTIONS);

my $node = create_node(
	'restricted', <<"EOC", allows_streaming => 1);
shared_preload_libraries = 'overten_auth'
overten_auth.databases = 'postgres'
overten_auth.verify_on_standby = on
listen_addresses = '127.0.0.1'
fsync = off
EOC
ask($node, REQUEST_FUNCTIONS);
my $org = create_org($node, 'Restricted');
my ($writer, $reader) = map { $node->background_psql('postgres') } 1 .. 2;

sub stat_of { return ask($reader, "SELECT $_[0] FROM overten_stat"); }

sub key_with
{
	return split /\|/, ask($writer, "SELECT secret, key_id FROM overten_mint_key('$org', $_[0])");
}

# Whether the tables are read for a verification.
sub reads_tables
{
	my ($secret) = @_;
	my $before = stat_of('cache_misses');

	verify($reader, $secret);
	return stat_of('cache_misses') - $before;
}

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
chmod 0600, $standby->data_dir . '/overten_auth.key' or die "chmod: $!";
$standby->start;
my $replica = $standby->background_psql('postgres');

# The cache of all sessions, and the standby's

my ($secret, $key) = key_with(q{'short', clock_timestamp() + '2 s'});
$node->wait_for_catchup($standby);
ok(is_accepted($writer, $secret), 'a key that will expire is accepted');
is(reads_tables($secret), 0, 'and then from the cache of all sessions');
ok(is_accepted($replica, $secret) && is_accepted($replica, $secret), 'and on the standby');
wait_until('the key expires', sub { ask($node, "SELECT status FROM overten_key_restrictions('$org', '$key')") eq 'expired' });
is(reads_tables($secret), 0, 'it is in the cache when it has expired');
is(verify($reader, $secret) . verify($writer, $secret), '', 'and is refused');
is(verify($replica, $secret), '', 'also on the standby');
is(ask($writer, "SELECT overten_set_expiry('$org', '$key', now() + '1 hour')"), 't', 'a later expiry');
ok(is_accepted($reader, $secret), 'revives it');
$node->wait_for_catchup($standby);
ok(is_accepted($replica, $secret), 'also on the standby');

is(ask($writer, "SELECT overten_disable_key('$org', '$key')"), 't', 'it is disabled');
is(verify($reader, $secret), '', 'which counts from the commit');
is(reads_tables($secret), 0, 'that it is refused is cached');
$node->wait_for_catchup($standby);
is(verify($replica, $secret), '', 'the standby follows');
ask($writer, "SELECT overten_enable_key('$org', '$key')");
ok(is_accepted($reader, $secret), 'and enabled again');
$node->wait_for_catchup($standby);
ok(is_accepted($replica, $secret), 'also on the standby');
ask($writer, "BEGIN; SELECT overten_disable_key('$org', '$key')");
ok(is_accepted($reader, $secret), 'a change that is not committed does not count');
ask($writer, 'ROLLBACK');
ok(is_accepted($writer, $secret), 'nor one that is rolled back');

# What does not fit into a slot

my $most = join ',', map { "2001:db8::$_" } 1 .. 64;
my ($wide, $wide_key) = key_with("'wide', allowed_addresses => '{$most}'");
my $too_long = stat_of('shared_cache_too_long');
is(ask($reader, "SELECT request_from('$wide', '2001:db8::64'), request_from('$wide', '2001:db8::65')"),
	'200|401', '64 networks are all compared');
cmp_ok(stat_of('shared_cache_too_long'), '>', $too_long, 'and do not fit into a slot');
is(ask($reader, "SELECT request_from('$wide', '2001:db8::1'), request_from('$wide', '2001:db8::99')"),
	'200|401', 'the cache of the session has them');
ask($writer, "SELECT overten_set_allowed_addresses('$org', '$wide_key', '{2001:db8::99}')");
is(ask($reader, "SELECT request_from('$wide', '2001:db8::1'), request_from('$wide', '2001:db8::99')"),
	'401|200', 'and hears of a change');

# The history, where IPv6 addresses have 64 bits

flush_usage($node);
is(ask($node, "SELECT client_addr, accepted, refused FROM overten_key_usage('$org', '$wide_key')"),
	'2001:db8::/64|3|3', 'the history counts what was refused');
is(uses($node, $key) =~ /^\d+\|(\d+)$/ ? $1 : uses($node, $key), 5, 'also while the key was expired or disabled');
is(ask($node, "SELECT count(*) FROM overten_key_anomalies('$org', '$key')"), '0', 'which is no attempt after a revocation');
is(ask($node, "SELECT client_addr, outcome FROM overten_check_addresses('$org', '$wide_key', '{2001:db8::1}')"),
	'2001:db8::/64|unknown', 'whom a smaller network would lock out is unknown');

# The address of a session over TCP

my ($near, $near_key) = key_with(q{'near', allowed_addresses => '{127.0.0.0/8}'});
my $tcp = 'host=127.0.0.1 dbname=postgres port=' . $node->port;
foreach my $restricted ('off', 'on')
{
	my $sql = "SET overten_auth.verify_restricted = $restricted; SELECT count(*) FROM overten_verify_key('$near')";

	is($node->safe_psql('postgres', $sql, connstr => $tcp), $restricted eq 'on' ? 1 : 0,
		"over TCP, with verify_restricted $restricted");
	is($node->safe_psql('postgres', $sql), 0, 'over a socket the address is unknown');
}

# Behind proxies

sub reload
{
	my ($name, $value) = @_;

	$node->append_conf('postgresql.conf', "$name = '$value'");
	$node->reload;
	$node->poll_query_until('postgres', "SELECT current_setting('$name') = '$value'")
	  or die "$name was not reloaded";
	return;
}

# How requests with this peer and X-Forwarded-For are answered.
sub statuses
{
	my ($secret, @requests) = @_;

	return join ' ', map {
		my ($peer, $forwarded) = @$_;
		$forwarded = defined $forwarded ? "'$forwarded'" : 'NULL';
		ask($node, "SELECT request('$secret', json_strip_nulls(json_build_object('x-overten-client-addr', '$peer', 'x-forwarded-for', $forwarded)))")
	} @requests;
}

my ($inner, $inner_key) = key_with(q{'inner', allowed_addresses => '{192.0.2.7,2001:db8:7::/64}'});
my $forgeable = q{SELECT severity, problem FROM overten_check() WHERE subject = 'overten_auth.trust_forwarded_for'};
is(ask($node, $forgeable), '', 'without proxies, overten_check finds nothing about them');
reload('overten_auth.trust_forwarded_for', 1);
is(statuses($inner, [ '203.0.113.9', '192.0.2.7' ]), 200, 'with a number of proxies, a direct client chooses its address');
is(ask($node, $forgeable), 'warning|Active keys with allowed addresses: 3. A client that does not come through your proxies can choose its address with X-Forwarded-For.',
	'which overten_check() says');
reload('overten_auth.trusted_proxies', '10.0.0.0/8, 203.0.113.1, ::ffff:198.51.100.0/120, 2001:db8:ffff::/48');
is(statuses($inner, [ '203.0.113.9', '192.0.2.7' ]), 401, 'with the proxies named, it does not');
is(ask($node, $forgeable), '', 'and overten_check() is content');
is( statuses(
		$inner,
		[ '192.0.2.7' ], [ '192.0.2.7', '203.0.113.9' ], [ '10.0.0.1', '192.0.2.7' ],
		[ '10.0.0.1', '203.0.113.9, 192.0.2.7' ], [ '198.51.100.3', '192.0.2.7,10.9.9.9, 203.0.113.1' ],
		[ '2001:db8:ffff::1', '2001:db8:7::5' ], [ '::ffff:10.0.0.1', '[2001:db8:7::5]:443' ]),
	'200 200 200 200 200 200 200', 'behind one proxy and behind several');
is( statuses(
		$inner,
		[ '10.0.0.1', '192.0.2.7, 203.0.113.9' ], [ '10.0.0.1' ], [ '10.0.0.1', 'unknown' ],
		[ '10.0.0.1', '192.0.2.7, unknown' ], [ '10.0.0.1', '192.0.2.7,' ], [ '10.0.0.1', '' ],
		[ '', '192.0.2.7' ], [ 'unknown', '192.0.2.7' ], [ '203.0.113.10', '192.0.2.7, 10.0.0.1' ]),
	'401 401 401 401 401 401 401 401 401', 'what a client has put further to the left does not count');
is(statuses($inner, [ '10.0.0.1', '192.0.2.7' . ', 10.0.0.1' x 5000 ]), 200, 'a long list is followed in linear time');
foreach my $bad ('10.0.0.1/8', '10.0.0.0/33', '::/129', 'proxy', '10.0.0.0/8,', '10.0.0.0/8 10.1.0.0/16', '1.2.3.4/', join(',', ('10.0.0.0/8') x 257))
{
	isnt($node->psql('postgres', "ALTER SYSTEM SET overten_auth.trusted_proxies = '$bad'"), 0,
		'not a list: ' . substr $bad, 0, 30);
}
is(ask($node, "SELECT severity, remedy FROM overten_check() WHERE subject = 'overten_auth.trusted_proxies'"), '', 'overten_check has nothing against this list');
reload('overten_auth.trusted_proxies', '10.0.0.0/8, ::/0');
is(ask($node, "SELECT severity, remedy FROM overten_check() WHERE subject = 'overten_auth.trusted_proxies'"),
	'danger|Name only your proxies.', 'but against one that trusts everybody');

$_->quit foreach $writer, $reader, $replica;
$standby->stop;
$node->stop;
done_testing();
