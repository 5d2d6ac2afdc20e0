
# A server without the master key that others have sealed with: a standby, a base
# backup and a restored dump accept keys, seal nothing, make no second key, and open
# all when the file is copied there.  pg_regress has one server.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use MasterKeys;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# A standby that was made before anything was sealed

my ($primary, $primary_file) =
  create_node_with_key('primary', allows_streaming => 1);
ask($primary, 'CREATE DATABASE second');
ask([ $primary, 'second' ], 'CREATE EXTENSION overten_auth CASCADE');
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
my $standby_file = PostgreSQL::Test::Utils::tempdir . '/standby.key';
$standby->append_conf('postgresql.conf',
	"overten_auth.master_key_file = '$standby_file'
	 overten_auth.verify_on_standby = on");
$standby->start;
is(sqlstate_of($standby, "SELECT overten_create_org('Standby')"),
	'25006', 'a standby seals nothing');
my $org = create_org($primary, 'First');
my ($secret, $key) = mint($primary, $org);
my $webhook_secret = webhook_secret($primary, $secret);
$primary->wait_for_catchup($standby);

sub check_without_key
{
	my ($name, $where, $key_file) = @_;

	my ($result, $stdout, $stderr) = $where->psql('postgres',
		"SELECT key_id, webhook_secret FROM overten_verify_key('$secret')");
	is($stdout, "$key|", "$name: keys are accepted");
	like($stderr, qr/WARNING:  webhook secrets cannot be unsealed/,
		"$name: it says that it cannot unseal");
	like($stderr, qr/DETAIL:  Master key \w{16} is missing\. The master key file does not exist\.\nHINT:  /,
		"$name: and what is missing");
	ok(!-e $key_file, "$name: it makes no key");
	return;
}

check_without_key('standby', $standby, $standby_file);
is(ask($standby, 'SELECT present FROM overten_auth.master_key_ids()'),
	'{}', 'standby: it knows that it has none');
$primary->stop;
$standby->promote;
check_without_key('promoted', $standby, $standby_file);
like(failure($standby), qr/55000.*\nDETAIL:  The master key file does not exist\./,
	'promoted: it does not seal');
ok(!-e $standby_file, 'promoted: it makes no second key');
write_file($standby_file, slurp_file($primary_file));
is(webhook_secret($standby, $secret),
	$webhook_secret, 'promoted: with the file copied, it opens');
like(failure($standby), qr/^$/, 'promoted: and seals');
$standby->stop;

# A cluster moved without the file: a base backup, or a dump

$primary->start;
$primary->backup('moved');
my $moved = PostgreSQL::Test::Cluster->new('moved');
$moved->init_from_backup($primary, 'moved');
my $moved_file = PostgreSQL::Test::Utils::tempdir . '/moved.key';
$moved->append_conf('postgresql.conf',
	"overten_auth.master_key_file = '$moved_file'");
$moved->start;
check_without_key('moved', $moved, $moved_file);
foreach my $database ('postgres', 'second')
{
	like(
		failure($moved, $database),
		qr/55000.*\nDETAIL:  The master key file does not exist\.\nHINT:  Copy the file .* from the server/,
		"moved: $database does not seal");
}
ok(!-e $moved_file, 'moved: no second key is made');
$moved->stop;

my $dump = $primary->basedir . '/dump.sql';
$primary->command_ok([ 'pg_dump', '-f', $dump, 'postgres' ], 'pg_dump');
my $fresh_file = PostgreSQL::Test::Utils::tempdir . '/fresh.key';
my $fresh = PostgreSQL::Test::Cluster->new('fresh');
$fresh->init;
$fresh->append_conf('postgresql.conf',
	"log_statement = none\noverten_auth.master_key_file = '$fresh_file'");
$fresh->start;
ask($fresh, 'CREATE DATABASE restored TEMPLATE template0');
$fresh->command_ok(
	[
		'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-f', $dump,
		'-o', '/dev/null', 'restored'
	],
	'psql -f');
my ($result, $stdout, $stderr) = $fresh->psql('restored',
	"SELECT key_id, webhook_secret FROM overten_verify_key('$secret')");
is($stdout, "$key|", 'restored: keys are accepted');
like($stderr, qr/WARNING:  webhook secrets cannot/, 'restored: with a warning');
like(failure($fresh, 'restored'),
	qr/55000.*\nDETAIL:  The master key file does not exist\./,
	'restored: it does not seal');
ok(!-e $fresh_file, 'restored: no second key is made');
write_file($fresh_file, slurp_file($primary_file));
is(webhook_secret([ $fresh, 'restored' ], $secret),
	$webhook_secret, 'restored: with the file copied, it opens');
$fresh->stop;
$primary->stop;

done_testing();
