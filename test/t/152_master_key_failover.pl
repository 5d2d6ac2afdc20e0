
# A master key that a failover could delete is not made: where another server
# follows this one, the first sealing needs a file outside of the data directory.
# Then pg_rewind leaves it; a file in the data directory it deletes, which is the
# control.  pg_regress has one server.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use IPC::Run;
use MasterKeys;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $folder = PostgreSQL::Test::Utils::tempdir;
my $settings = <<'EOC';
shared_preload_libraries = 'overten_auth'
overten_auth.databases = 'postgres, second, missing'
overten_auth.verify_on_standby = on
overten_auth.signing_keys_command = ''
wal_log_hints = on
wal_keep_size = 64MB
max_logical_replication_workers = 4
EOC
my $primary = create_node('first', $settings, allows_streaming => 'logical', extra => [ '-X', "$folder/wal" ]);
my $data = $primary->data_dir;
my $inside = "$data/overten_auth.key";
ask($primary, 'CREATE DATABASE second');
ask([ $primary, 'second' ], 'CREATE EXTENSION overten_auth CASCADE');

# Seal a first time, in a transaction that leaves no org; what the client is told.
# The key file, if one is made, and the mark are removed again.
sub first_sealing
{
	my ($file) = @_;
	my (undef, undef, $stderr) =
	  $primary->psql('postgres', "\\set VERBOSITY verbose\nBEGIN; SELECT overten_create_org('First'); ROLLBACK");

	is(-e $file ? 'made' : 'not made', $stderr eq '' ? 'made' : 'not made', 'there is a key if it was sealed');
	unlink $file, "$data/overten_auth.sealed";
	return $stderr;
}

my $refusal = qr/55000: there is no master key .*\nDETAIL:  The master key file is in the data directory of a server that has standbys, .*\nHINT:  Set overten_auth\.master_key_file to a path outside .* copy the file to all/;

sub is_refused
{
	my ($file, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	like(first_sealing($file), $refusal, "$name: the first sealing is refused");
	return;
}

sub is_sealed
{
	my ($file, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is(first_sealing($file), '', "$name: it is sealed");
	return;
}

sub status { return ask($_[0], 'SELECT master_key_warning FROM overten_status()'); }

sub check
{
	return ask($_[0], q{SELECT severity || ', ' || subject FROM overten_check() WHERE severity <> 'notice' AND subject ~ 'master'});
}

# What copies or reads the WAL without following

is_sealed($inside, 'one server');
is(status($primary), '', 'and there is nothing to warn of');
my ($out, $err);
my $backup = do {
	local %ENV = $primary->_get_env();
	IPC::Run::start([ 'pg_basebackup', '-D', "$folder/slow", '-c', 'fast', '-r', '32k', '-X', 'stream' ], '>', \$out, '2>', \$err);
};
$primary->poll_query_until('postgres', q{SELECT array_agg(state ORDER BY state) = '{backup,streaming}' FROM pg_stat_replication})
  or die 'no base backup';
is_sealed($inside, 'while a base backup runs');
is(status($primary), '', 'nor is there anything to warn of');
ask($primary, 'SELECT pg_terminate_backend(pid) FROM pg_stat_replication');
$backup->finish;

ask($primary, q{CREATE PUBLICATION tiers FOR TABLE overten_auth.tiers; SELECT pg_create_logical_replication_slot('subscriber', 'pgoutput')});
my $self = $primary->connstr('postgres');
ask([ $primary, 'second' ], "CREATE SUBSCRIPTION tiers CONNECTION \$\$$self\$\$ PUBLICATION tiers WITH (create_slot = false, copy_data = false, slot_name = subscriber)");
$primary->poll_query_until('postgres', q{SELECT state = 'streaming' AND replay_lsn IS NOT NULL FROM pg_stat_replication WHERE application_name = 'tiers'})
  or die 'no logical subscriber';
is_sealed($inside, 'with a logical subscriber');
is(status($primary), '', 'nor is there anything to warn of with it');
ask([ $primary, 'second' ], 'DROP SUBSCRIPTION tiers');

# A physical slot, and where the file is

ask($primary, q{SELECT pg_create_physical_replication_slot('standby')});
like(status($primary), qr/^The master key file is in the data directory/, 'a slot alone: the status warns before anything is sealed');
is(check($primary), 'warning, overten_auth.master_key_file', 'and so does the check');
mkdir "$folder/tablespace" or die;
ask($primary, "CREATE TABLESPACE elsewhere LOCATION '$folder/tablespace'");
mkdir $_ or die "$_: $!" foreach "$folder/out", "${data}_beside", "$data/sub";
symlink $data, "$folder/in" or die;
symlink "$folder/out", "$data/leads_out" or die;

foreach my $case (
	[ 'the default', 'overten_auth.key', $inside, 1 ],
	[ 'a folder of it', 'sub/master.key', "$data/sub/master.key", 1 ],
	[ 'an absolute path', "$data/other.key", "$data/other.key", 1 ],
	[ 'a relative path to outside', '../relative.key', "$data/../relative.key", 0 ],
	[ 'a relative path out and in', '../pgdata/again.key', "$data/again.key", 1 ],
	[ 'an absolute path outside', "$folder/out/master.key", "$folder/out/master.key", 0 ],
	[ 'a folder whose name begins alike', "${data}_beside/master.key", "${data}_beside/master.key", 0 ],
	[ 'a link to the data directory', "$folder/in/linked.key", "$data/linked.key", 1 ],
	[ 'a link out of it', 'leads_out/linked.key', "$folder/out/linked.key", 0 ],
	[ 'the folder of the WAL', "$folder/wal/master.key", "$folder/wal/master.key", 1 ],
	[ 'a tablespace', "$folder/tablespace/master.key", "$folder/tablespace/master.key", 1 ])
{
	my ($name, $setting, $file, $refused) = @$case;

	set_key_file($primary, $setting);
	is(status($primary) ne '', $refused == 1, "$name: the status");
	$refused ? is_refused($file, $name) : is_sealed($file, $name);
}

# A file that somebody has made; what a link leads to counts
write_file("$data/sub/by_hand.key", random_key());
set_key_file($primary, 'sub/by_hand.key');
like(failure($primary), $refusal, 'a file made by hand in the data directory is refused');
symlink "$data/sub/by_hand.key", "$folder/out/to_inside.key" or die;
set_key_file($primary, "$folder/out/to_inside.key");
like(failure($primary), $refusal, 'as is a link to it');
unlink "$data/sub/by_hand.key";
write_file("$folder/out/by_hand.key", random_key());
symlink "$folder/out/by_hand.key", "$data/to_outside.key" or die;
set_key_file($primary, 'to_outside.key');
is_sealed("$data/to_outside.key", 'a link to a file outside');
set_key_file($primary, "$folder/nowhere/master.key");
like(failure($primary), qr/55000.*\nDETAIL:  The master key file could not be made: No such file/, 'a folder that does not exist has its own error');
ask($primary, q{SELECT pg_drop_replication_slot('standby')});

# Failover, once with the key inside, which only a standby that comes later makes
# possible, and once outside

# Make a standby that has no key.
sub make_standby
{
	my ($node, $name) = @_;

	$node->backup($name);
	my $standby = PostgreSQL::Test::Cluster->new($name);
	$standby->init_from_backup($node, $name, has_streaming => 1, tablespace_map => {});
	return $standby;
}

# Promote a standby; the old primary goes on for a moment, and then follows it.
sub fail_over
{
	my ($old, $new) = @_;
	my $conf = $old->data_dir . '/postgresql.conf';
	my $saved = slurp_file($conf);

	$old->wait_for_catchup($new);
	$new->promote;
	ask($old, 'CREATE TABLE not_replicated ()');
	$old->stop;
	ask($new, 'CHECKPOINT');
	system_or_bail('pg_rewind', '--target-pgdata', $old->data_dir, '--source-server', $new->connstr('postgres'));
	write_file($conf, $saved);
	$old->enable_streaming($new);
	$old->set_standby_mode;
	$old->start;
	return;
}

sub warnings_of
{
	my ($node, $start) = @_;

	return () = slurp_file($node->logfile, $start) =~ /WARNING:  webhook secrets of database "postgres" cannot be unsealed on this standby\n.*DETAIL:  Master key \w{16} is missing\. The master key file does not exist\.\n.*HINT:  Copy the file/g;
}

ask($primary, 'DROP TABLESPACE elsewhere');
set_key_file($primary, 'overten_auth.key');
my $standby = make_standby($primary, 'later');
my $org = create_org($primary, 'Lost');
my ($secret) = mint($primary, $org);
my $webhook_secret = webhook_secret($primary, $secret);
my $log_start = -s $standby->logfile || 0;
$standby->start;
$primary->poll_query_until('postgres', 'SELECT bool_or(replay_lsn IS NOT NULL) FROM pg_stat_replication') or die 'no standby';
like(status($primary), qr/^The master key file is in the data directory/, 'a standby that comes later: the status warns');
is(check($primary), 'warning, overten_auth.master_key_file', 'and so does the check');
is(status($standby), '', 'the standby has nothing to warn of yet, for it has nothing that is sealed')
  if ask($standby, 'SELECT count(*) FROM overten_auth.orgs') == 0;
$primary->wait_for_catchup($standby);
like(status($standby), qr/^Master key \w{16} is missing\. The master key file does not exist\.$/, 'it warns that it lacks the key');
like(failure($primary), qr/^$/, 'what has been sealed before goes on');
$standby->restart;
wait_until('the standby warns', sub { return warnings_of($standby, $log_start) > 0 });
ok(-e $inside, 'control: the key is there');
$log_start = -s $primary->logfile;
fail_over($primary, $standby);
ok(!-e $inside, 'control: the failover has deleted it');
wait_until('the old primary warns', sub { return warnings_of($primary, $log_start) > 0 });
is(webhook_secret($_, $secret), 't|', 'control: no server opens the secret') foreach $primary, $standby;
unlike(slurp_file($primary->logfile, $log_start), qr/database "missing" does not exist|standby check.*exit code/, 'the workers that look have not failed');
is(scalar(warnings_of($primary, $log_start)), 1, 'and have warned once');
$_->stop foreach $primary, $standby;

$primary = create_node('second_first', $settings, allows_streaming => 1);
$data = $primary->data_dir;
$standby = make_standby($primary, 'attached');
$standby->start;
$primary->poll_query_until('postgres', 'SELECT bool_or(replay_lsn IS NOT NULL) FROM pg_stat_replication') or die 'no standby';
is_refused("$data/overten_auth.key", 'a standby without a slot');
ask($primary, 'CREATE ROLE keeper; ALTER TABLE overten_auth.orgs OWNER TO keeper; GRANT USAGE ON SCHEMA overten_auth TO keeper');
is_refused("$data/overten_auth.key", 'one whose state the owner of orgs may not read');
ask($primary, 'ALTER TABLE overten_auth.orgs OWNER TO postgres');
my %file = (primary => "$folder/out/primary.key", standby => "$folder/out/standby.key");
set_key_file($primary, $file{primary});
$standby->append_conf('postgresql.conf', "overten_auth.master_key_file = '$file{standby}'");
$standby->reload;
$org = create_org($primary, 'Kept');
($secret) = mint($primary, $org);
$webhook_secret = webhook_secret($primary, $secret);
like($webhook_secret, qr/^t\|whsec_/, 'with a file outside the first sealing succeeds');
write_file($file{standby}, slurp_file($file{primary}));
$primary->wait_for_catchup($standby);
is(webhook_secret($_, $secret), $webhook_secret, 'both servers open the secret') foreach $primary, $standby;
is(status($_), '', 'and there is nothing to warn of') foreach $primary, $standby;
$log_start = -s $primary->logfile;
fail_over($primary, $standby);
$standby->wait_for_catchup($primary);
is(webhook_secret($_, $secret), $webhook_secret, 'after the failover both servers open it') foreach $primary, $standby;
like(failure($standby), qr/^$/, 'and the new primary seals');
unlike(slurp_file($primary->logfile, $log_start), qr/cannot be unsealed/, 'nothing warns');
$_->stop foreach $primary, $standby;

done_testing();
