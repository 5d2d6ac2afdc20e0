
# A change that the logical apply worker makes empties the caches of the
# subscriber's sessions, as one by a client does.  pg_regress has no second
# server to publish from.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $publisher = create_node('publisher', '', allows_streaming => 'logical');
my $subscriber = create_node('subscriber', '');

ask($publisher, "INSERT INTO overten_auth.tiers VALUES ('pro')");
my $org = create_org($publisher, 'Replicated');
my ($secret, $key) = mint($publisher, $org);
my ($kept) = mint($publisher, $org);

# The key that webhook secrets are sealed with is in no table.
my $key_file = $subscriber->data_dir . '/overten_auth.key';
append_to_file($key_file,
	slurp_file($publisher->data_dir . '/overten_auth.key'));
chmod 0600, $key_file or die "chmod: $!";

# CREATE EXTENSION has made the tier "free" on both sides.
ask($publisher, <<'EOQ');
CREATE PUBLICATION keys FOR TABLE
	overten_auth.tiers WHERE (name <> 'free'),
	overten_auth.orgs, overten_auth.members, overten_auth.api_keys;
EOQ
my $connection = $publisher->connstr . ' dbname=postgres';
ask($subscriber,
	"CREATE SUBSCRIPTION keys CONNECTION '$connection' PUBLICATION keys");
$subscriber->poll_query_until('postgres',
	"SELECT count(*) = 0 FROM pg_subscription_rel WHERE srsubstate <> 'r'")
  or die 'the tables were not copied';

my $session = $subscriber->background_psql('postgres');
is(verify($session, $secret), $key, 'a published key is accepted');
is( ask(
		$session,
		"SELECT webhook_secret FROM overten_verify_key('$secret')"),
	ask($publisher,
		"SELECT webhook_secret FROM overten_verify_key('$secret')"),
	'and the webhook secret opens, with a copy of the master key file');
is(verify($session, $secret), $key, 'and again, from the cache');

# Wait until a change to the publisher has been applied.
sub change
{
	ask($publisher, shift);
	$publisher->wait_for_catchup('keys');
	return;
}

change("SELECT overten_revoke_key('$org', '$key')");
is(verify($session, $secret), '', 'its revocation is obeyed');
ok(is_accepted($session, $kept), 'another key is accepted still');

my $tier = "SELECT tier FROM overten_verify_key('$kept')";
is(ask($session, $tier), 'free', 'its org is on one tier');
change("SELECT overten_set_tier('$org', 'pro')");
is(ask($session, $tier), 'pro', 'a change of tier is obeyed');

change("SELECT overten_set_api_access('$org', false)");
ok(!is_accepted($session, $kept), 'a suspension is obeyed');
change("SELECT overten_set_api_access('$org', true)");
ok(is_accepted($session, $kept), 'and its end');

($secret, $key) = mint($publisher, $org);
$publisher->wait_for_catchup('keys');
is(verify($session, $secret), $key, 'a key minted meanwhile is accepted');
change("DELETE FROM overten_auth.api_keys WHERE key_id = '$key'");
is(verify($session, $secret), '', 'a row that is deleted is obeyed');

ok(is_accepted($session, $kept), 'a key is cached');
change('TRUNCATE overten_auth.api_keys');
ok(!is_accepted($session, $kept), 'TRUNCATE is obeyed');
$session->quit;

$subscriber->stop;
$publisher->stop;
done_testing();
