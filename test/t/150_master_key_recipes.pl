
# The recipes of docs/webhooks.md for moving and for replacing the master key, as
# they stand there, on a cluster with its configuration in the data directory and on one of
# Debian's layout.  They must never lose a key, whatever goes wrong.  pg_regress
# cannot move the file.

use strict;
use warnings FATAL => 'all';

use File::Copy qw(copy move);
use File::Path qw(make_path);
use File::stat;
use FindBin;
use IPC::Run;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($chapter) = slurp_file("$FindBin::RealBin/../../docs/webhooks.md") =~ /^## Master keys\n(.*)/ms
  or die 'docs/webhooks.md has no chapter on master keys';
my @recipes = map { s/^   //mgr } $chapter =~ /^ *```sh\n(.*?)^ *```$/msg;
my ($reseal) = $chapter =~ /^ *(DO \$\$ .*?)\n *```$/m or die 'there is no SQL';
is(scalar @recipes, 4, 'there are the recipes');
my ($make_folder, $move, $add, $remove) = @recipes;
my $user = getpwuid $>;
my $group = getgrgid $);

# Run a recipe on a node, with another folder than the page's and, where it names
# the server's user, the one who runs this.  Returns the status and what was
# written to stderr.
sub run_recipe
{
	my ($node, $folder, $recipe) = @_;
	my ($out, $err);

	$recipe =~ s{/etc/overten_auth}{$folder}g;
	$recipe =~ s{-o postgres -g postgres}{-o $user -g $group};
	local %ENV = $node->_get_env();
	IPC::Run::run([ 'sh', '-c', $recipe ], '<', \undef, '>', \$out, '2>', \$err);
	return ($? >> 8, $err);
}

sub succeeds
{
	my ($node, $folder, $recipe, $name) = @_;
	my ($status, $err) = run_recipe($node, $folder, $recipe);

	is($status, 0, $name) or diag($err);
	return;
}

sub stops
{
	my ($node, $folder, $recipe, $why, $name) = @_;
	my ($status, $err) = run_recipe($node, $folder, $recipe);

	isnt($status, 0, $name);
	like($err, $why, 'and says why');
	return;
}

my $sign = q{SELECT string_agg(overten_sign_webhook(org_id, 'msg_1', 1, 'body'::text), ' ' ORDER BY org_id) FROM overten_auth.orgs};

# Go through the recipes on a node that has keys at its data directory.
sub go_through
{
	my ($node, $layout) = @_;
	my $app = [ $node, 'app' ];
	my $other = [ $node, 'other one' ];
	my $old = $node->data_dir . '/overten_auth.key';
	my $folder = PostgreSQL::Test::Utils::tempdir . "/$layout";
	my $new = "$folder/master.key";

	foreach my $database ('app', 'other one', 'without')
	{
		ask($node, qq{CREATE DATABASE "$database"});
		next if $database eq 'without';
		ask([ $node, $database ], 'CREATE EXTENSION overten_auth CASCADE');
		create_org([ $node, $database ], $_) foreach 'First', 'Second';
	}
	my $signed = ask($app, $sign);
	like($signed, qr/^v1,\S+ v1,\S+$/, "$layout: webhooks are signed");
	my $content = slurp_file($old);

	# Moving

	stops($node, $folder, $move, qr/No such file or directory/, "$layout: without a folder nothing is moved");
	is(slurp_file($old), $content, 'the file stays');
	is(ask($app, "LOAD 'overten_auth'; SHOW overten_auth.master_key_file"), 'overten_auth.key', 'and is used');
	succeeds($node, $folder, $make_folder, "$layout: the folder is made");
	is(stat($folder)->mode & 07777, 0700, 'for the server alone');
	append_to_file($new, "of another server\n");
	stops($node, $folder, $move, qr/master\.key exists already/, "$layout: a file that is there is not overwritten");
	is(slurp_file($new), "of another server\n", 'it is as it was');
	is(slurp_file($old), $content, 'the old one, too');
	unlink $new or die "unlink: $!";

	succeeds($node, $folder, $move, "$layout: the file is moved");
	ok(!-e $old, 'it is in the data directory no more');
	is(slurp_file($new), $content, 'but in the folder, with the same content');
	is(stat($new)->mode & 07777, 0600, 'and mode 0600');
	is(ask($app, $sign), $signed, 'the same secrets sign');
	stops($node, $folder, $move, qr/exists already/, "$layout: it is not moved onto itself");
	is(slurp_file($new), $content, 'but stays');

	# Replacing

	my ($first) = ask($app, 'SELECT present[1] FROM overten_auth.master_key_ids()');
	succeeds($node, $folder, $add, "$layout: a key is added");
	is(stat($new)->mode & 07777, 0600, 'the mode stays');
	my ($second, $present) = split /\|/,
	  ask($app, 'SELECT present[1], present FROM overten_auth.master_key_ids()');
	is($present, "{$second,$first}", 'it is the first');
	stops($node, $folder, $remove, qr/Database app needs another key/, "$layout: the old one is not removed while it is needed");
	is(ask($app, 'SELECT present FROM overten_auth.master_key_ids()'), $present, 'both are there');
	ask($app, $reseal);
	stops($node, $folder, $remove, qr/Database other one needs another key/, "$layout: nor while another database needs it");
	ask($other, $reseal);
	# As an interrupted DROP DATABASE leaves it.
	ask($node, q{UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'without'});
	stops($node, $folder, $remove, qr/cannot connect to invalid database "without"/, "$layout: nor if a database cannot be asked");
	is(ask($app, 'SELECT present FROM overten_auth.master_key_ids()'), $present, 'both are there');
	ask($node, q{UPDATE pg_database SET datconnlimit = -1 WHERE datname = 'without'});
	succeeds($node, $folder, $remove, "$layout: then it is removed");
	is(ask($app, 'SELECT needed, present FROM overten_auth.master_key_ids()'), "{$second}|{$second}", 'the new one is alone');
	is(stat($new)->mode & 07777, 0600, 'the mode stays');
	is(ask($_, $sign) =~ /^v1,\S+ v1,\S+$/, 1, 'secrets sign') foreach $app, $other;
	is(ask($app, $sign), $signed, 'as before');
	like(slurp_file("$new.old"), qr/\Q$content\E$/, 'the old file is kept');
	return ($folder, $signed);
}

# With the configuration in the data directory

my $plain = create_node('plain', '');
my ($folder, $signed) = go_through($plain, 'plain');
$plain->restart;
is(ask([ $plain, 'app' ], $sign), $signed, 'after a restart, too');
$plain->stop;

# As Debian has it: the configuration in a folder of its own, and the data
# directory named there.

my $debian = PostgreSQL::Test::Cluster->new('debian');
my $etc = PostgreSQL::Test::Utils::tempdir . '/etc/postgresql/15/main';

sub control
{
	my ($action, $options) = @_;

	system_or_bail('pg_ctl', '-w', '-s', '-D', $debian->data_dir, '-l', $debian->logfile,
		'-o', "-c config_file=$etc/postgresql.conf $options", $action);
	$debian->_update_pid($action eq 'start');
	return;
}

$debian->init;
$debian->append_conf('postgresql.conf', <<"EOC");
log_statement = none
data_directory = '${\$debian->data_dir}'
hba_file = '$etc/pg_hba.conf'
ident_file = '$etc/pg_ident.conf'
shared_preload_libraries = 'overten_auth'
EOC
make_path($etc);
move($debian->data_dir . "/$_", "$etc/$_") or die "move: $!"
  foreach 'postgresql.conf', 'pg_hba.conf', 'pg_ident.conf';
control('start', '');
is(ask($debian, 'SHOW config_file'), "$etc/postgresql.conf", 'the configuration is elsewhere');
($folder, $signed) = go_through($debian, 'debian');
control('stop', '');
control('start', '');
is(ask([ $debian, 'app' ], $sign), $signed, 'after a restart, too');

# Where the command line has the last word on the setting, the new file would
# not be read.
my $kept = slurp_file("$folder/master.key");
control('stop', '');
control('start', "-c overten_auth.master_key_file=$folder/master.key");
stops($debian, $folder, $move =~ s{/master\.key$}{/moved.key}mr, qr/The server does not use \S+moved\.key\. Nothing has changed\./,
	'a file that the server does not use is not moved');
is(slurp_file("$folder/master.key"), $kept, 'but stays');
ok(!-e "$folder/moved.key", 'and the copy is removed');
is(ask([ $debian, 'app' ], $sign), $signed, 'secrets sign');
control('stop', '');
control('start', '');
is(ask([ $debian, 'app' ], $sign), $signed, 'also with the setting of the file');
control('stop', '');

done_testing();
