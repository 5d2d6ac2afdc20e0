
# How clients take a verification: a good key is a row to them, and a refused one
# is none.  pg_regress knows only psql, and of that what it prints.

use strict;
use warnings FATAL => 'all';

use Cwd qw(abs_path);
use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = create_node('clients', '');
my $org = create_org($node, 'Clients');
my ($good, $key) = mint($node, $org);
my ($bad, $bad_key) = mint($node, $org);
ask($node, "SELECT overten_revoke_key('$org', '$bad_key')");
my $clients = abs_path("$FindBin::RealBin/../clients");

# Run a client; returns what it prints.
sub run_client
{
	my (@command) = @_;
	my ($stdout, $stderr);

	local %ENV = $node->_get_env();
	local $ENV{PGDATABASE} = 'postgres';
	local $ENV{PGUSER} = getpwuid $<;
	IPC::Run::run(\@command, '>', \$stdout, '2>', \$stderr)
	  or die "@command: $stderr";
	return split /\n/, $stdout;
}

my @lines = run_client('node', "$clients/node_postgres.mjs", $good, $bad);
is(scalar @lines, 17, 'node-postgres has asked in all ways');
is((split / /)[1], 1, "node-postgres, a good key: $_") foreach @lines;
is((split / /)[2], 0, "node-postgres, a revoked one: $_") foreach @lines;

# psql takes it for an error to store what has not come.
my $script = <<"EOQ";
SELECT key_id FROM overten_verify_key('$good') \\gset
\\echo :key_id
\\unset key_id
SELECT key_id FROM overten_verify_key('$bad') \\gset
\\if :{?key_id}
\\echo :key_id
\\else
\\echo none
\\endif
EOQ
my ($status, $stdout, $stderr) = $node->psql('postgres', $script);
is($stdout, $key, 'psql: \gset stores a good key');
is($status, 3, 'and a script that stops at errors stops at a revoked one');
like($stderr, qr/no rows returned for \\gset/, 'for it has no row');
($status, $stdout) = $node->psql('postgres', $script, on_error_stop => 0);
is($stdout, "$key\nnone", 'one that goes on has nothing stored');

$node->stop;
done_testing();
