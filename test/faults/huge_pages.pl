
# A server with huge pages, which run has reserved.  test/t/134_shared_cache_faults.pl
# looks at one with the usual pages.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../t";
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = create_node('huge_pages', <<'EOC');
shared_preload_libraries = 'overten_auth'
huge_pages = on
shared_buffers = 16MB
EOC
my $backend = $node->background_psql('postgres');
my $slots = ask($backend, 'SELECT shared_cache_entries FROM overten_stat');
my $excluded = excluded_from_dumps(ask($backend, 'SELECT pg_backend_pid()'));

cmp_ok($slots, '>', 0, 'there is a shared cache');
cmp_ok($excluded, '>=', $slots * 384, 'no core dump has its slots');
unlike(slurp_file($node->logfile), qr/out of core dumps/, 'nor is anything wrong in the log');
$backend->quit;

done_testing();
