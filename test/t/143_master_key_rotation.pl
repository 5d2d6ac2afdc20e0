
# Rotation of the master key: the orgs are sealed anew while others write, no
# secret changes, and a database that is forgotten is told of.  pg_regress cannot
# touch the file.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use MasterKeys;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($node, $file) = create_node_with_key('rotated');
my $second = [ $node, 'second' ];
ask($node, 'CREATE DATABASE second');
ask($second, 'CREATE EXTENSION overten_auth CASCADE');
my $make_orgs = "SELECT count(o.org_id) FROM generate_series(1, %d) i, overten_create_org('Sealed ' || i) o";
ask($node, "INSERT INTO overten_auth.tiers VALUES ('other')");
ask($node, sprintf $make_orgs, 146);
ask($second, sprintf $make_orgs, 120);
# A session that has sealed with the first key.
my $session = $node->background_psql('postgres');
my $org = create_org($session, 'Robust');
my ($secret, $key) = mint($node, $org);
my $content = slurp_file($file);
my $id = master_key_ids($node) =~ s/^\{(\w+)\}\|\{\1\}$/$1/r;

ask($node, "SELECT overten_rotate_webhook_secret('$org')");
my $sign = "SELECT overten_sign_webhook('$org', 'msg_1', 1, 'body')";
my $signed = ask($node, $sign);
is(length $signed, 95, 'two secrets sign');
my $webhook_secret = webhook_secret($node, $secret);
my $orgs = ask($node, 'SELECT count(*) FROM overten_auth.orgs');

my $new = random_key();
write_file($file, "$new$content");
my ($new_id) = master_key_ids($node) =~ /\|\{(\w+),$id\}$/
  or die 'there is no second key';
is(webhook_secret($node, $secret),
	$webhook_secret, 'with a new key put first, the old one opens');
create_org($session, 'New');
is(master_key_ids($node), '{' . join(',', sort $id, $new_id) . "}|{$new_id,$id}",
	'and the new one seals');

my $locker = $node->background_psql('postgres');
ask($locker, "BEGIN; SELECT overten_set_tier('$org', 'other')");
my $left = $orgs;
my $calls = 0;
while ((my $now = ask($node, 'SELECT overten_reseal(50)')) > 1)
{
	$left -= 50;
	is($now, $left, "$left are left to reseal");
	last if ++$calls > 100;
}
cmp_ok($calls, '>', 1, 'it took some calls');
is(ask($node, 'SELECT overten_reseal()'),
	1, 'the one that is locked stays to be done');
ask($locker, 'COMMIT');
$locker->quit;
my ($result, $stdout, $stderr) =
  $node->psql('postgres', 'SELECT overten_reseal()');
is($stdout, 0, 'then all are done');
like($stderr, qr/NOTICE:  orgs resealed: 1, still to do: 0$/m, 'and told');
is(master_key_ids($node),
	"{$new_id}|{$new_id,$id}", 'the old key is not needed any more');
write_file($file, $new);
is(webhook_secret($node, $secret), $webhook_secret, 'without it all opens');
is(ask($node, $sign), $signed, 'and the same two secrets sign');
is( ask(
		$node, "SELECT sum(detail::int) FROM overten_auth.audit_log
		 WHERE action = 'reseal'"),
	$orgs,
	'the audit log has each once');
like(failure($node, 'second'), qr/^$/, 'the other database seals with it');
($result, $stdout, $stderr) =
  $node->psql('second', 'SELECT overten_reseal()');
is($stdout, 0, 'and has nothing to do that could be done');
like($stderr, qr/WARNING:  orgs with a .* that does not open: 120$/m,
	'but is told of those whose key was taken away too early');
like($stderr, qr/^DETAIL:  .* The first orgs are: org_\w{20}(, org_\w{20}){2}\.$/m,
	'and which the first of them are');
write_file($file, $new . $content);
is(ask($second, 'SELECT overten_reseal()'),
	0, 'they are done when it is back');
is(master_key_ids($second),
	"{$new_id}|{$new_id,$id}", 'in the other database too');

# Two that reseal at once, with others that write, end without a deadlock.
write_file($file, random_key() . $new);
my @resealing = map { $node->background_psql('postgres') } 1 .. 3;
$resealing[$_]->query_until(
	qr/started/,
	$_ == 2
	? "\\echo started
	   SELECT count(overten_rotate_webhook_secret(org_id))
		FROM (SELECT org_id FROM overten_auth.orgs ORDER BY org_id DESC) o;\n"
	: "\\echo started
	   DO \$\$ BEGIN WHILE overten_reseal(7) > 0 LOOP COMMIT; END LOOP; END \$\$;\n"
) foreach 0 .. 2;
$_->quit foreach @resealing;
is(ask($node, 'SELECT overten_reseal()'), 0, 'all is done');
unlike(slurp_file($node->logfile),
	qr/deadlock detected|PANIC|terminated by signal/, 'and nothing broke');
is( ask(
		$node, 'SELECT count(*) = count(overten_sign_webhook(org_id, $$m$$, 1, $$b$$))
		FROM overten_auth.orgs'),
	't',
	'every secret opens');

$session->quit;
$node->stop;
done_testing();
