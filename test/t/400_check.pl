
# overten_check() returns nothing where nothing is wrong, and what is wrong with
# the library, workers, signing keys and master keys.  pg_regress has no
# preloaded library.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WholeSurface;

my $node = create_node('check', surface_settings('postgres'));

# Severity, subject and remedy of all findings.
sub findings
{
	my ($where) = @_;

	return ask($where, q{SELECT severity || ', ' || subject || ': ' || remedy FROM overten_check()});
}

sub problem
{
	my ($where, $subject) = @_;

	return ask($where, "SELECT problem FROM overten_check() WHERE subject = '$subject'");
}

sub reload
{
	my ($setting) = @_;

	$node->append_conf('postgresql.conf', $setting);
	my ($name, $value) = $setting =~ /^(\S+) = '?(.*?)'?$/ or die $setting;
	$node->reload;
	$node->poll_query_until('postgres', "SELECT current_setting('$name') = \$\$$value\$\$")
	  or die "$setting was not reloaded";
	return;
}

# All is well

my $has_worker = q{SELECT usage_worker = 'waiting' FROM overten_status()};
my ($secret) = mint($node, create_org($node, 'Acme Docs'));
ask($node, 'SELECT overten_refresh_signing_keys()');
$node->poll_query_until('postgres', $has_worker) or die 'there is no worker';
is(findings($node), '', 'where all is configured there is nothing to say');

# Keys that are fetched no more

reload(q{overten_auth.signing_keys_command = 'exit 7'});
is(sqlstate_of($node, 'SELECT overten_refresh_signing_keys()'), '55000', 'fetching fails');
is(findings($node), '', 'which is nothing while the keys are good for long');
ask($node, q{UPDATE overten_auth.signing_keys SET expires_at = now() + interval '5 hours'});
is(findings($node), 'warning, signing keys: Run SELECT overten_refresh_signing_keys().', 'but when they expire soon');
like(problem($node, 'signing keys'),
	qr/^The last one expires at 20\S+ .* The last fetch: The command exited with 7\b/, 'it says when and why');
ask($node, 'DELETE FROM overten_auth.signing_keys');
like(problem($node, 'signing keys'), qr/^There is no unexpired signing key\. .* The last fetch: /, 'or that there are none');
reload(q{overten_auth.signing_keys_command = ''});
is(findings($node), 'warning, signing keys: Load new ones with overten_load_signing_keys.', 'without a command they have to be loaded');
ask($node, q{SELECT overten_load_signing_keys($doc$} . surface_document('key-1') . '$doc$)');
is(findings($node), '', 'then all is well');

# Uses that cannot be written

ask($node, 'ALTER TABLE overten_auth.key_usage ADD CONSTRAINT none CHECK (accepted = 0) NOT VALID');
is_accepted($node, $secret);
is(sqlstate_of($node, 'SELECT overten_flush_usage()'), '55000', 'a flush fails');
like(problem($node, 'background worker'), qr/^It has failed at 20\S+ .*: .*violates check constraint/, 'which is told');
ask($node, 'ALTER TABLE overten_auth.key_usage DROP CONSTRAINT none');
flush_usage($node);
$node->poll_query_until('postgres', $has_worker) or die 'there is no worker';
is(findings($node), '', 'until one succeeds');

# The master key file is elsewhere

my $file = $node->data_dir . '/overten_auth.key';
my $id = ask($node, 'SELECT needed[1] FROM overten_auth.master_key_ids()');
rename $file, "$file.away" or die "rename: $!";
like(findings($node), qr/^warning, master key $id: Copy the file /, 'a master key that is missing is named');
rename "$file.away", $file or die "rename: $!";
is(findings($node), '', 'not when it is there');

# Another database, whose owner is an ordinary role

ask($node, 'CREATE ROLE dba LOGIN; CREATE DATABASE "Other" OWNER dba');
my $other = [ $node, 'Other' ];
ask($other, 'CREATE EXTENSION overten_auth CASCADE');
like(findings($other), qr/^warning, overten_auth\.databases: Add "Other", and restart the server\.$/m, 'a database that is not listed');
like(problem($other, 'schema public'), qr/^The owner of the database, dba, .* is not a superuser\./, 'an owner who is not a superuser');
like(problem($other, 'signing keys'), qr/^There is no unexpired signing key/, 'keys are missing there');

# A project that somebody sets in its own session is none.
$node->append_conf('postgresql.conf', q{overten_auth.firebase_project_id = ''});
$node->append_conf('postgresql.conf', q{shared_preload_libraries = ''});
$node->append_conf('postgresql.conf', q{overten_auth.databases = ''});
$node->restart;
ask($node, 'GRANT EXECUTE ON FUNCTION overten_check() TO dba');
{
	local $ENV{PGOPTIONS} = '-c overten_auth.firebase_project_id=demo-project -c overten_auth.databases=postgres';
	local $ENV{PGUSER} = 'dba';
	my $seen = findings($node);

	like($seen, qr/^notice, overten_auth\.firebase_project_id: /m, 'a project that a session has set before the library was loaded does not count');
	like($seen, qr/^notice, shared_preload_libraries: /m, 'nor do databases');
}

$node->stop;
done_testing();
