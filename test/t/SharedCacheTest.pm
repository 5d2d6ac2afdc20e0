package SharedCacheTest;

# A server whose sessions share a cache of keys: one that writes, one that reads,
# and some that sleep.  For the tests of that cache.

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use FindBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw($node $data $module $writer $reader @sleepers $org stat_of hits is_hit cached_key
  is_refused_everywhere start_server end_tests);

our $module = "$FindBin::RealBin/../modules/relcache_faults.so";
our ($node, $data, $writer, $reader, @sleepers, $org);

sub start_server
{
	die "make $module" unless -e $module;
	$node = create_node(
		'shared', <<"EOC", allows_streaming => 1);
shared_preload_libraries = '$module, overten_auth'
max_prepared_transactions = 10
overten_auth.verify_on_standby = on
fsync = off
EOC
	$data = $node->data_dir;
	ask($node, <<"EOQ");
CREATE FUNCTION fail_in(text) RETURNS void LANGUAGE c STRICT AS '$module';
CREATE FUNCTION pause_at_release() RETURNS void LANGUAGE c STRICT AS '$module';
CREATE FUNCTION hold_shared_cache(boolean) RETURNS void LANGUAGE c STRICT AS '$module';
EOQ
	$writer = $node->background_psql('postgres');
	$reader = $node->background_psql('postgres');
	@sleepers = map { $node->background_psql('postgres') } 1 .. 3;
	$_->set_query_timer_restart foreach $writer, $reader, @sleepers;
	$org = create_org($writer, 'Shared');
	return;
}

# A column of the statistics.
sub stat_of
{
	return ask($reader, "SELECT $_[0] FROM overten_stat");
}

# How many of these verifications came from a cache.
sub hits
{
	my ($where, $secrets) = @_;
	my $before = stat_of('cache_hits');

	ask($where,
		"SELECT count(v.key_id) FROM ($secrets) s (secret), overten_verify_key(secret) v");
	return stat_of('cache_hits') - $before;
}

sub is_hit
{
	my ($where, $secret) = @_;

	return hits($where, "VALUES ('$secret')") == 1;
}

# A new key that is in the shared cache, and known to those who sleep.
sub cached_key
{
	my ($owner) = @_;
	my ($secret, $id) = mint($writer, $owner);

	is_accepted($_, $secret) or die 'not accepted' foreach $reader, @sleepers;
	return ($secret, $id);
}

# A session that begins now does not accept the key any more, nor do the others.
sub is_refused_everywhere
{
	my ($secret, $name) = @_;

	ok(!is_accepted($node, $secret), "$name: a session that begins then refuses");
	ok(!is_accepted($reader, $secret), "$name: so does one that was there");
}

sub end_tests
{
	$_->quit foreach $writer, $reader, @sleepers;
	$node->stop;
	done_testing();
	return;
}

1;
