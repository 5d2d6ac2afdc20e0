
# A database that is dumped and restored verifies, refuses and mints as before,
# into another server too.  pg_regress runs neither pg_dump nor a second server.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = create_node('original', '');
my $other = PostgreSQL::Test::Cluster->new('other');
$other->init;
$other->start;

# A name that a dump has to quote, tiers beside the one of CREATE EXTENSION.
ask($node, <<'EOQ');
CREATE ROLE app;
GRANT EXECUTE ON FUNCTION overten_verify_key(text) TO app;
GRANT SELECT (key_id, prefix) ON overten_auth.api_keys TO app;
GRANT USAGE ON SCHEMA overten_auth TO app;
INSERT INTO overten_auth.tiers VALUES ('pro', false), ('trial', true);
EOQ
ask($other, 'CREATE ROLE app');
my $org = create_org($node, q{$$ '');' || E'\t' || E'});
