
# One customer's requests, however slow and many, do not keep the gateway from
# verifying, revoking and reading for others.  They are made slow by locks that others
# need not wait for.  pg_regress has no HTTP.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use GatewayTest;
use IO::Socket::INET;
use JSON::PP qw(decode_json);
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = create_api_node('gateway_fairness', "max_connections = 60\noverten_auth.record_use_without_preload = off\n");
# How long somebody waits here is the machine's business.
ask($node, 'ALTER ROLE overten_gateway SET statement_timeout = 0');
my %patience = map { $_ => 1000 * $PostgreSQL::Test::Utils::timeout_default } qw(CONNECT_TIMEOUT_MS QUERY_TIMEOUT_MS);

# Orgs and their members.  Ada and Amy are the customer who asks too much.
my %members = (busy => [qw(ada amy)], second => ['ada'], dan => ['dan'], eve => ['eve'], bob => ['bob']);
my %org = map { $_ => create_org($node, $_) } sort keys %members;
foreach my $name (keys %members)
{
	ask($node, "SELECT overten_set_api_access('$org{$name}', true)");
	ask($node, "SELECT overten_add_member('$org{$name}', '$_')") foreach @{ $members{$name} };
}
my %bearer = map { $_ => 'Authorization: Bearer ' . sign($_) } qw(ada amy dan eve bob);
my $other_bearer = 'Authorization: Bearer ' . sign('ada', 'email_verified=false');
my ($secret) = mint($node, $org{bob});
my @keys = map { (mint($node, $org{bob}))[1] } 1 .. 8;    # to be revoked
my $json = 'Content-Type: application/json';
my $locker;
my $gateway;
my @sockets;

sub start_fair
{
	my ($name, @environment) = @_;

	$gateway = start_gateway($node, $name, METRICS_LISTEN => '127.0.0.1:0', POOL_SIZE => 8, %patience, @environment);
	return;
}

sub keys_of
{
	return "/api/v1/organizations/$org{$_[0]}/api-keys";
}

sub report_of
{
	return "/api/v1/organizations/$org{$_[0]}/usage";
}

# Send requests and do not wait for the answers.
sub post_all
{
	my ($count, $method, $path, $bearer) = @_;
	my @body = $method eq 'POST' ? ($json, 'Content-Length: 12', '', '{"name":"x"}') : ('', '');

	foreach (1 .. $count)
	{
		my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $gateway->{port}) // die "cannot connect: $!";

		$socket->syswrite(join "\r\n", "$method $path HTTP/1.1", 'Host: localhost', 'Connection: close', $bearer, @body);
		push @sockets, $socket;
	}
	# This request runs, too.
	wait_until('the requests have come', sub { metric('requests_running') == @sockets + 1 });
	return;
}

sub metric
{
	my ($name) = @_;
	my ($value) = request($gateway->{metrics_url}, 'GET', '/metrics')->{body} =~ /^overten_gateway_$name(?:\{server="[^"]*"\})? (\d+)$/m;

	return $value;
}

sub pool
{
	return metric('pool_connections_used') . ' ' . metric('pool_waiting');
}

sub lock_by
{
	my ($sql) = @_;

	$locker = $node->background_psql('postgres');
	$locker->query_safe("BEGIN; $sql");
	return;
}

sub wait_for_locked
{
	my ($count) = @_;

	$node->poll_query_until('postgres', "SELECT count(*) >= $count FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
	  or die 'no request waits for the lock';
	return;
}

# End the lock; returns the statuses of what has waited.
sub release
{
	my %statuses;

	$locker->quit;
	foreach my $socket (splice @sockets)
	{
		$statuses{ rest_of($socket) =~ m{^HTTP/1\.1 (\d+) } ? $1 : 'none' }++;
	}
	return join ', ', map { "$statuses{$_} times $_" } sort keys %statuses;
}

# Another customer verifies, and revokes a key.
sub others_go_on
{
	my ($what) = @_;
	my $key = shift @keys;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is(summary(request($gateway->{url}, 'GET', '/api/v1/verify', ["Authorization: Bearer $secret"])), '200', "$what: another one verifies");
	is(summary(request($gateway->{authorize_url}, 'GET', '/authorize', ["Authorization: Bearer $secret"])), '200', "$what: another one's service asks");
	is(summary(request($gateway->{url}, 'DELETE', keys_of('bob') . "/$key", [ $bearer{bob} ])), '204', "$what: another one revokes");
	return;
}

start_fair('fair');

# The lists of one person
lock_by('LOCK TABLE overten_auth.key_usage, overten_auth.key_last_used');
post_all(12, 'GET', keys_of('busy'), $bearer{ada});
wait_for_locked(2);
others_go_on('lists');
is(summary(request($gateway->{url}, 'GET', '/api/v1/organizations', [ $bearer{bob} ])), '200', 'lists: another one reads');
is(summary(request($gateway->{url}, 'PATCH', "/api/v1/organizations/$org{busy}", [ $bearer{ada}, $json ], '{"name":"busy"}')), '200',
	'lists: the person writes');
is(pool(), '2 10', 'lists: a person has a quarter of the pool to read');
is(release(), '12 times 200', 'lists: they are answered in the end');

# The reports of three
lock_by('LOCK TABLE overten_auth.key_usage');
post_all(4, 'GET', report_of($_->[0]), $bearer{ $_->[1] }) foreach [ 'busy', 'ada' ], [ 'dan', 'dan' ], [ 'eve', 'eve' ];
wait_for_locked(4);
others_go_on('reports');
is(pool(), '4 8', 'reports: half of the pool reads');
is(release(), '12 times 200', 'reports: they are answered in the end');

# What people write into one org
lock_by("SELECT FROM overten_auth.orgs WHERE org_id IN ('$org{busy}', '$org{second}') FOR UPDATE");
post_all(6, 'POST', keys_of('busy'), $bearer{$_}) foreach 'ada', 'amy';
wait_for_locked(2);
others_go_on('writing');
is(pool(), '2 10', 'writing: an org has a quarter of the pool');
is(release(), '12 times 201', 'writing: they are answered in the end');

# What a person writes with two tokens into two orgs
lock_by("SELECT FROM overten_auth.orgs WHERE org_id IN ('$org{busy}', '$org{second}') FOR UPDATE");
post_all(6, 'POST', keys_of('busy'), $bearer{ada});
post_all(6, 'POST', keys_of('second'), $other_bearer);
wait_for_locked(2);
others_go_on('two tokens');
is(pool(), '2 10', 'two tokens: a person has a quarter of the pool');
is(release(), '12 times 201', 'two tokens: they are answered in the end');
is(pool(), '0 0', 'nobody waits any more');

# Those who ask whether the database answers, which takes a look at pg_extension
lock_by('LOCK TABLE pg_catalog.pg_extension');
post_all(12, 'GET', '/readyz', 'X: x');
wait_for_locked(1);
is(pool(), '1 0', 'readiness: one look is for all who ask');
others_go_on('readiness');
is(release(), '12 times 200', 'readiness: they are answered in the end');
stop_process($gateway);

# Verification without connections of its own
start_fair('unpipelined', PIPELINES => 0);
lock_by('LOCK TABLE overten_auth.key_usage');
post_all(4, 'GET', report_of($_->[0]), $bearer{ $_->[1] }) foreach [ 'busy', 'ada' ], [ 'dan', 'dan' ], [ 'eve', 'eve' ];
wait_for_locked(4);
others_go_on('without pipelines');
is_deeply(decode_json(node_script('load.mjs', 'crowd', "$gateway->{url}/api/v1/verify", 50, $secret)), { 200 => 50 },
	'without pipelines: a service verifies as much as it likes');
is(release(), '12 times 200', 'without pipelines: the reports are answered in the end');
my @verified = map { (mint($node, $org{busy}))[0] } 1 .. 12;
lock_by('LOCK TABLE overten_auth.api_keys');
post_all(1, 'GET', '/api/v1/verify', "Authorization: Bearer $_") foreach @verified;
wait_for_locked(4);
is(pool(), '4 8', 'without pipelines: half of the pool verifies');
is(summary(request($gateway->{url}, 'PATCH', "/api/v1/organizations/$org{bob}", [ $bearer{bob}, $json ], '{"name":"bob"}')), '200',
	'without pipelines: another one writes');
is(summary(request($gateway->{url}, 'GET', '/api/v1/organizations', [ $bearer{bob} ])), '200', 'without pipelines: another one reads');
is(release(), '12 times 200', 'without pipelines: the verifications are answered in the end');
stop_process($gateway);

# Whose turn it is, if there is one connection
start_fair('single', POOL_SIZE => 1);
my $key = shift @keys;
lock_by("SELECT FROM overten_auth.orgs WHERE org_id = '$org{busy}' FOR UPDATE");
post_all(1, 'POST', keys_of('busy'), $bearer{ada});
post_all(2, 'GET', '/api/v1/features', $bearer{ada});
post_all(3, 'POST', keys_of('busy'), $bearer{ada});
post_all(1, 'DELETE', keys_of('bob') . "/$key", $bearer{bob});
wait_for_locked(1);
release();
my @logged;
wait_until('all are logged', sub { (@logged = slurp_file($gateway->{out}) =~ m{"method":"(\w+)","path":"/api/}g) == 7 });
is("@logged", 'POST POST DELETE POST POST GET GET',
	'what writes comes first, and customers take turns');
stop_process($gateway);

start_fair('single_unpipelined', POOL_SIZE => 1, PIPELINES => 0);
$key = shift @keys;
lock_by("SELECT FROM overten_auth.orgs WHERE org_id = '$org{busy}' FOR UPDATE");
post_all(1, 'POST', keys_of('busy'), $bearer{ada});
post_all(1, 'GET', '/api/v1/features', $bearer{ada});
post_all(1, 'GET', '/api/v1/verify', "Authorization: Bearer sk_live_made_up_$_") foreach 1 .. 3;
post_all(1, 'DELETE', keys_of('bob') . "/$key", $bearer{bob});
wait_for_locked(1);
release();
wait_until('all are logged', sub { (@logged = slurp_file($gateway->{out}) =~ m{"method":"\w+","path":"/api/v1/(\w+)}g) == 6 });
is("@logged", 'organizations organizations verify verify verify features',
	'what writes comes before verifications, however many keys are made up');
stop_process($gateway);

# Whose time is over
start_fair('hasty', CONNECT_TIMEOUT_MS => 5000);
lock_by('LOCK TABLE overten_auth.key_usage');
post_all(2, 'GET', report_of('busy'), $bearer{ada});
wait_for_locked(2);
my $late = request($gateway->{url}, 'GET', report_of('busy'), [ $bearer{ada} ]);
is(summary($late), '503 service_unavailable', 'a request that waits too long');
is_deeply($late->{headers}{'retry-after'}, ['1'], 'when to send it again');
unlike(slurp_file($gateway->{err}), qr/POOL_SIZE/, 'the operator is not told to do anything about that');
is(release(), '2 times 200', 'those before it are answered');
stop_process($gateway);

start_fair('full', CONNECT_TIMEOUT_MS => 5000, POOL_SIZE => 1);
(my $kept, $key) = mint($node, $org{bob});
lock_by("SELECT FROM overten_auth.orgs WHERE org_id = '$org{busy}' FOR UPDATE");
post_all(1, 'POST', keys_of('busy'), $bearer{ada});
wait_for_locked(1);
is(summary(request($gateway->{url}, 'DELETE', keys_of('bob') . "/$key", [ $bearer{bob} ])), '503 service_unavailable', 'one that waits for others');
is(release(), '1 times 201', 'which are answered');
is(summary(request($gateway->{url}, 'GET', '/api/v1/verify', ["Authorization: Bearer $kept"])), '200', 'nothing has been done for it');
like(slurp_file($gateway->{err}), qr/POOL_SIZE is too small/, 'the operator is told of that');
stop_process($gateway);
done_testing();
