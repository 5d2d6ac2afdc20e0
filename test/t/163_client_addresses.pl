
# The address that a use is counted with: as the layer in front tells it, or a
# session has it, and how many of a key are told apart.  pg_regress has no TCP
# clients and no background workers.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use UsageTest;

my $node = create_node(
	'addresses', <<'EOC');
shared_preload_libraries = 'overten_auth'
overten_auth.databases = 'postgres'
overten_auth.flush_interval = 1h
listen_addresses = '127.0.0.1'
EOC
my $org = create_org($node, 'Counted');
my $owner = $node->background_psql('postgres');
$owner->set_query_timer_restart;
ask($owner, REQUEST_FUNCTIONS);

my @forms = (
	[ '192.0.2.7' => '192.0.2.7' ],
	[ ' 192.0.2.7 ' => '192.0.2.7' ],
	[ '192.0.2.7:8080' => '192.0.2.7' ],
	[ '::ffff:192.0.2.7' => '192.0.2.7' ],
	[ '::FFFF:c000:0207' => '192.0.2.7' ],
	[ '[::ffff:192.0.2.7]:443' => '192.0.2.7' ],
	[ '2001:db8:1:2:3:4:5:6' => '2001:db8:1:2::/64' ],
	[ '2001:DB8:1:2::' => '2001:db8:1:2::/64' ],
	[ '[2001:db8:1:2::9]' => '2001:db8:1:2::/64' ],
	[ '[2001:db8:1:2::9]:443' => '2001:db8:1:2::/64' ],
	[ '::1' => '::/64' ],
	[ '' => '' ],
	[ 'unknown' => '' ],
	[ '_hidden' => '' ],
	[ '192.0.2.256' => '' ],
	[ '192.0.2' => '' ],
	[ '3221225991' => '' ],
	[ '0x7f.1' => '' ],
	[ '192.0.2.7/24' => '' ],
	[ '192.0.2.7, 192.0.2.8' => '' ],
	[ '[2001:db8::1' => '' ],
	[ '2001:db8::1::2' => '' ],
	[ ':' => '' ],
	[ '[]' => '' ],
	[ '[' => '' ],
	[ "192.0.2.7'; --" => '' ],
	[ '1' x 5000 => '' ]);
my @forwarded = (
	[ '192.0.2.1, 192.0.2.2, 192.0.2.3' => '192.0.2.2' ],
	[ '192.0.2.2,192.0.2.3' => '192.0.2.2' ],
	[ '192.0.2.1 , 192.0.2.2:99 , 192.0.2.3:1' => '192.0.2.2' ],
	[ 'x, [2001:db8:1:2::9]:80, 192.0.2.3' => '2001:db8:1:2::/64' ],
	[ 'unknown, 192.0.2.3' => '' ],
	[ ', 192.0.2.3' => '' ],
	[ ',' => '' ],
	[ '192.0.2.2, ' => '192.0.2.2' ],
	[ '192.0.2.3' => '198.51.100.9' ],
	[ '' => '198.51.100.9' ]);

# Make a request with each form in its place, and see what was counted.
sub check_addresses
{
	my ($name, $headers, @forms) = @_;
	my $values = join ',', map { "(\$v\$$_->[0]\$v\$)" } @forms;

	ask($owner, <<"EOQ");
CREATE TEMP TABLE forms AS
	SELECT n, value, m.key_id, m.secret
	FROM ROWS FROM (unnest(ARRAY[$values])) WITH ORDINALITY f (value, n),
		overten_mint_key('$org', 'form ' || n) m;
EOQ
	is( ask($owner, "SELECT DISTINCT request(secret, $headers) FROM forms"),
		200, "$name: keys are accepted");
	flush_usage($owner);
	my @found = split /\n/, ask($owner, <<'EOQ');
SELECT string_agg(format('<%s>', client_addr), ' ')
FROM forms LEFT JOIN overten_auth.key_usage USING (key_id) GROUP BY n ORDER BY n
EOQ
	is($found[$_], "<$forms[$_]->[1]>",
		"$name: <" . substr($forms[$_]->[0], 0, 40) . '>')
	  foreach 0 .. $#forms;
	ask($owner, 'DROP TABLE forms');
	return;
}

my $told = "json_build_object('x-overten-client-addr', value)";
check_addresses('x-overten-client-addr', $told, @forms);
check_addresses('x-forwarded-for is not trusted',
	"json_build_object('x-overten-client-addr', '198.51.100.9', 'x-forwarded-for', value)",
	[ '192.0.2.1, 192.0.2.2' => '198.51.100.9' ]);
configure($node, 'overten_auth.trust_forwarded_for', '2');
check_addresses('x-forwarded-for',
	"json_build_object('x-overten-client-addr', '198.51.100.9', 'x-forwarded-for', value)",
	@forwarded);
configure($node, 'overten_auth.trust_forwarded_for', '0');

my ($secret, $key) = mint($owner, $org);
verify($owner, $secret);
$node->safe_psql('postgres', "SELECT overten_verify_key('$secret')",
	connstr => 'host=127.0.0.1 dbname=postgres port=' . $node->port);
flush_usage($owner);
is( ask(
		$owner,
		"SELECT DISTINCT client_addr FROM overten_auth.key_usage
		 WHERE key_id = '$key' ORDER BY 1"),
	"127.0.0.1\n", 'sessions over TCP, and over a Unix-domain socket');

# What PostgREST has called before a request
($secret, $key) = mint($owner, $org);
ask($owner, <<"EOQ");
SELECT set_config('request.headers',
	'{"authorization": "Bearer $secret", "x-overten-client-addr": "198.51.100.7"}', false);
SELECT overten_api.authenticate_request();
RESET request.headers;
EOQ
flush_usage($owner);
is( ask(
		$owner,
		"SELECT client_addr FROM overten_auth.key_usage WHERE key_id = '$key'"),
	'198.51.100.7', 'authenticate_request takes the address of the request');

# More addresses than are kept
sub check_many_addresses
{
	my ($name, $each_flush, $unknown_first) = @_;

	within_an_hour(
		$owner,
		sub {
			($secret, $key) = mint($owner, $org);
			verify($owner, $secret) if $unknown_first;
			for (my $n = 1; $n <= 70; $n += $each_flush)
			{
				my $end = $n + $each_flush - 1;

				ask($owner,
					"SELECT request_from('$secret', '10.0.0.' || n)
					 FROM generate_series($n, $end) n, generate_series(1, n)");
				flush_usage($owner);
			}
			# Those that are known stay so.
			ask($owner, "SELECT request_from('$secret', '10.0.0.1')");
			flush_usage($owner);
		});
	is( ask(
			$owner,
			"SELECT count(client_addr), count(*),
				sum(accepted) FILTER (WHERE client_addr = '10.0.0.1')
			 FROM overten_auth.key_usage WHERE key_id = '$key'"),
		'64|65|2',
		"$name: 64 addresses are kept, the rest is in one row");
	is( uses($owner, $key),
		70 * 71 / 2 + 1 + $unknown_first,
		"$name: nothing is lost");
	return;
}
check_many_addresses('70 addresses in one flush', 70, 0);
check_many_addresses('70 addresses in seven flushes', 10, 0);
check_many_addresses('an unknown address first', 70, 1);
check_many_addresses('an unknown address first, in two flushes', 35, 1);

$owner->quit;
$node->stop;
done_testing();
