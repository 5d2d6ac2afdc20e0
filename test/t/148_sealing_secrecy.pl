
# What the master key protects, and the key itself, is in no log, dump, WAL or file
# of the cluster but the key file.  pg_regress sees no files.

use strict;
use warnings FATAL => 'all';

use File::Find;
use FindBin;
use lib $FindBin::RealBin;
use MasterKeys;
use MIME::Base64;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($quiet, $quiet_file) = create_node_with_key('quiet');
$quiet->append_conf('postgresql.conf', <<'EOC');
log_min_messages = debug2
log_min_duration_statement = 0
wal_level = logical
EOC
$quiet->restart;
ask($quiet, <<'EOQ');
SET log_min_duration_statement = -1;
CREATE TEMP TABLE org AS SELECT (overten_create_org('Org ' || i)).* FROM generate_series(1, 20) i;
CREATE TEMP TABLE minted AS SELECT m.* FROM org, overten_mint_key(org_id) m;
EOQ
my $quiet_org = create_org($quiet, 'Quiet');
my ($quiet_secret) = mint($quiet, $quiet_org);
my @webhook_secrets = (webhook_secret($quiet, $quiet_secret) =~ s/^t\|//r);
push @webhook_secrets,
  ask($quiet, "SELECT overten_rotate_webhook_secret('$quiet_org')");
my $quiet_new = random_key();
my $quiet_key = slurp_file($quiet_file) =~ s/^#.*\n//mgr;
write_file($quiet_file, $quiet_new . $quiet_key);
is(ask($quiet, 'SELECT overten_reseal()'), 0, 'all is resealed');
ask($quiet, "SELECT overten_sign_webhook('$quiet_org', 'msg_1', 1, 'body')");
push @webhook_secrets,
  ask($quiet, "SELECT overten_rotate_webhook_secret('$quiet_org')");
ask($quiet, 'CHECKPOINT');
$quiet->command_ok(
	[ 'pg_dump', '-f', $quiet->basedir . '/dump.sql', 'postgres' ],
	'pg_dump');
$quiet->stop;

my %secret = map { $_ => "webhook secret" } @webhook_secrets;
$secret{ substr $_, 6 } = 'its base64' foreach @webhook_secrets;
$secret{ decode_base64(substr $_, 6) } = 'its bytes' foreach @webhook_secrets;
foreach my $line ($quiet_key, $quiet_new)
{
	chomp $line;
	$secret{$line} = 'master key';
	$secret{ decode_base64($line) } = 'its bytes';
	$secret{ unpack 'H*', decode_base64($line) } = 'its hex';
}
my $searched = 0;
my @found;
my $names = 0;
find(
	{
		no_chdir => 1,
		wanted => sub {
			return if !-f || -l;
			my $content = slurp_file($_);

			$searched++;
			$names++ if index($content, $quiet_org) >= 0;
			foreach my $secret (keys %secret)
			{
				push @found, "$_: $secret{$secret}"
				  if index($content, $secret) >= 0;
			}
		}
	},
	$quiet->basedir,
	$quiet->logfile);
cmp_ok($searched, '>', 900, 'log, dump, WAL and data directory are searched');
cmp_ok($names, '>=', 3, 'the id of an org is found in table, WAL and dump');
is(join("\n", @found), '', 'but no webhook secret and no master key');
cmp_ok(index(slurp_file($quiet_file), $quiet_new), '==', 0,
	'which the search would see in the file that has it');

done_testing();
