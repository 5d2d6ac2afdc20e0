
# The audit logs of a server that is stopped are saved, whatever its databases are
# called: who can create a database can choose a name that is an option of the server.
# pg_regress cannot stop the server.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use IPC::Run;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/../..";
my $node = create_node('stopped', 'wal_level = replica');
my $saved = $node->basedir . '/saved';
my $programs = $node->basedir . '/programs';
mkdir $programs or die "$programs: $!\n";
my $bindir = $node->config_data('--bindir');
symlink "$bindir/postgres", "$programs/postgres" or die "postgres: $!\n";
symlink "$top/contrib/save_audit_log", "$programs/save_audit_log" or die "save_audit_log: $!\n";

# Databases, and whether they have the extension
my %has_log = (
	'-cshared_preload_libraries=/tmp/e' => 0,
	'-rFILE' => 1,
	'--wal_level=minimal' => 0,
	'a\\b' => 1,
	"new\nline\n" => 1,
	"it's \"one\" name\\n \t" => 1,
	'16384' => 0,
	'..' => 0,
	'$(touch FILE)' => 0);
my %oid;
ask($node, 'CREATE ROLE maker LOGIN CREATEDB');
foreach my $name (sort keys %has_log)
{
	my $quoted = '"' . $name =~ s/"/""/gr . '"';
	my $connstr = sprintf "host=%s port=%s dbname='%s'", $node->host, $node->port, $name =~ s/([\\'])/\\$1/gr;

	$node->safe_psql('postgres', "CREATE DATABASE $quoted TEMPLATE template0", connstr => $node->connstr('postgres') . ' user=maker');
	$node->safe_psql('', 'CREATE EXTENSION overten_auth CASCADE', connstr => $connstr) if $has_log{$name};
	$oid{$name} = $node->safe_psql('', 'SELECT oid FROM pg_database WHERE datname = current_database()', connstr => $connstr);
	$node->safe_psql('', "SELECT overten_create_org('Of $oid{$name}')", connstr => $connstr) if $has_log{$name};
}
create_org($node, 'Of postgres');
ask($node, 'CREATE DATABASE left_half_done');
ask($node, "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'left_half_done'");
$node->stop;

# Exit status and standard error
sub save_audit_log
{
	my ($stdout, $stderr);
	local %ENV = (%ENV, OVERTEN_SAVED => $saved);

	unlink glob "$saved/*";
	IPC::Run::run([ "$programs/save_audit_log", $node->data_dir ], '>', \$stdout, '2>', \$stderr);
	return ($? >> 8, $stderr);
}

# The files that were saved, without their times
sub saved_files
{
	return join ' ', sort map { m{([^/]+)-\d{8}T\d{6}Z\.csv\.gz$} ? $1 : $_ } glob "$saved/*";
}

my @logs = sort 'postgres', map { $oid{$_} } grep { $has_log{$_} } keys %has_log;
is(join('', save_audit_log()), '0', 'the audit logs of a stopped server are saved');
is(saved_files(), join(' ', @logs), 'one for each database that has one');
foreach my $name (@logs)
{
	my ($file) = glob "$saved/$name-*";
	like(`gzip -dc '$file'`, qr/^audit_id,.*\n.*,create_org,org_\w+,/, "that of $name") if defined $file;
}
is(-e $node->data_dir . '/FILE', undef, 'no name has made a file');

# A database that cannot be opened could have an audit log.
my $lost = $node->data_dir . "/base/$oid{'16384'}";
rename $lost, "$lost.away" or die "$lost: $!\n";
my ($status, $stderr) = save_audit_log();
is($status, 1, 'it fails if a database cannot be opened');
like($stderr, qr/^database $oid{'16384'}: /m, 'and says which');
is(saved_files(), join(' ', @logs), 'but not before the others are saved');
rename "$lost.away", $lost or die "$lost: $!\n";

# Nor may an audit log that cannot be read pass for one that is saved.
$node->start;
ask($node, 'ALTER TABLE overten_auth.audit_log RENAME TO other_log');
$node->stop;
($status, $stderr) = save_audit_log();
is($status, 1, 'it fails if an audit log cannot be read');
like($stderr, qr/^database postgres: .*audit_log/ms, 'and says why');

done_testing();
