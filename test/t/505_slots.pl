
# Keys that are spread over four servers by slots, behind PL/Proxy: each is where its
# org is and nowhere else, is accepted and refused through the proxy, and the gateway
# works in front of it as in front of one server.  pg_regress has one database only.
#
# OVERTEN_SLOT_KEYS is how many keys are minted.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use GatewayTest;
use IPC::Run;
use JSON::PP qw(decode_json);
use MIME::Base64 qw(encode_base64url);
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use UsageTest;

my $keys = $ENV{OVERTEN_SLOT_KEYS} || 2000;
my $orgs = 40;
my @servers = map { "s$_" } 0 .. 3;
my $top = "$FindBin::RealBin/../..";
my $node = create_api_node('servers', <<'EOC');
max_connections = 100
max_worker_processes = 16
shared_preload_libraries = 'overten_auth'
overten_auth.databases = 's0, s1, s2, s3'
EOC
my $roles = slurp_file("$top/gateway/roles.sql") =~ s/^(CREATE|ALTER) ROLE.*?;$//gmsr;
my $signing_keys = ask($node, 'COPY overten_auth.signing_keys TO STDOUT');

foreach my $n (0 .. 3)
{
	my ($first, $last) = (256 * $n, 256 * $n + 255);

	ask($node, "CREATE DATABASE s$n");
	ask($node, "ALTER DATABASE s$n SET overten_auth.slots = '$first-$last'");
	ask($node, "ALTER DATABASE s$n SET overten_auth.firebase_project_id = 'overten-test'");
	ask([ $node, "s$n" ], 'CREATE EXTENSION overten_auth CASCADE');
	$node->safe_psql("s$n", $roles);
	ask([ $node, "s$n" ], "COPY overten_auth.signing_keys FROM STDIN;\n$signing_keys\n\\.\n");
}


# A proxy without a map does nothing.

ask($node, 'CREATE ROLE anon; ' . join ';', map { "ALTER DEFAULT PRIVILEGES GRANT ALL ON $_ TO anon" } qw(SCHEMAS TABLES FUNCTIONS));
ask($node, slurp_file("$top/contrib/plproxy.sql"));
ask($node, join ';', map { "ALTER DEFAULT PRIVILEGES REVOKE ALL ON $_ FROM anon" } qw(SCHEMAS TABLES FUNCTIONS));
is(ask($node, <<'EOQ'), '', 'default privileges give nobody anything of the proxy');
SELECT string_agg(name, ' ') FROM (
	SELECT oid::regclass::text, relacl FROM pg_class WHERE relnamespace::regnamespace::text IN ('overten_proxy', 'plproxy')
	UNION ALL SELECT nspname, nspacl FROM pg_namespace WHERE nspname IN ('overten_proxy', 'plproxy')
	UNION ALL SELECT oid::regprocedure::text, proacl FROM pg_proc WHERE pronamespace::regnamespace::text IN ('overten_proxy', 'plproxy')) o (name, acl)
WHERE EXISTS (SELECT FROM aclexplode(acl) WHERE grantee IN (0, 'anon'::regrole))
EOQ
ask($node, 'GRANT overten_proxy_caller TO overten_gateway');
is(sqlstate_of($node, "SELECT overten_create_org('Nowhere')"), '55000', 'without a map of the slots, the proxy does nothing');
ask($node, sprintf q{INSERT INTO overten_proxy.servers SELECT 's' || n, format('host=%%s port=%%s dbname=s%%s connect_timeout=2', '%s', '%s', n) FROM generate_series(0, 3) n},
	$node->host, $node->port);
ask($node, q{INSERT INTO overten_proxy.slots SELECT n, 's' || n / 256 FROM generate_series(0, 1022) n});
is(sqlstate_of($node, "SELECT overten_create_org('Nowhere')"), '55000', 'with a map that lacks a slot neither');
ask($node, q{INSERT INTO overten_proxy.slots VALUES (1023, 's3')});


# Keys

ask($node, "CREATE TABLE org AS SELECT o.org_id FROM generate_series(1, $orgs) n, overten_create_org('Org ' || n) o");
ask($node, "CREATE TABLE key AS SELECT k.key_id, k.secret, k.org_id FROM generate_series(1, $keys / $orgs) n, org o, overten_mint_key(o.org_id, 'Key ' || n) k");
is(ask($node, 'SELECT count(DISTINCT secret) FROM key'), $keys, "$keys keys are minted through the proxy");
my ($there, $elsewhere) = (0, 0);
foreach my $n (0 .. 3)
{
	my ($count, $others, $foreign, $org_count) = split /\|/, ask([ $node, "s$n" ], <<"EOQ");
SELECT count(*), count(*) FILTER (WHERE overten_slot(digest) / 256 <> $n), count(*) FILTER (WHERE overten_slot(digest) <> overten_slot(org_id)),
	(SELECT count(*) FROM overten_auth.orgs) FROM overten_auth.api_keys
EOQ
	cmp_ok($org_count, '>', 0, "s$n has orgs");
	$there += $count;
	$elsewhere += $others + $foreign;
}
is($there, $keys, 'the four servers have them all');
is($elsewhere, 0, 'none is on another server than its slot, or has another slot than its org');
is(ask($node, 'SELECT (SELECT count(*) FROM overten_auth.api_keys) + (SELECT count(*) FROM overten_auth.orgs)'), 0, 'the proxy has none');
my $accepted = 'SELECT count(*) FROM key k, overten_verify_key(k.secret) v WHERE v.key_id = k.key_id AND v.org_id = k.org_id';
is(ask($node, $accepted), $keys, 'all are accepted through the proxy');
is(ask($node, 'SELECT count(*) FROM (SELECT * FROM key LIMIT 100) k WHERE overten_revoke_key(k.org_id, k.key_id)'), 100, '100 are revoked through it');
is(ask($node, $accepted), $keys - 100, 'and refused at once');

# The control: a server that does not draw keys with the slot of their org
my $some_org = ask($node, 'SELECT org_id FROM org LIMIT 1');
my $its_server = 's' . ask($node, "SELECT overten_slot('$some_org') / 256");
my $lost = ask([ $node, $its_server ], <<"EOQ");
SET overten_auth.slots = '';
SELECT string_agg(secret, ' ') FROM generate_series(1, 40) n, overten_mint_key('$some_org', 'Lost ' || n)
EOQ
my $found = 0;
$found += is_accepted($node, $_) foreach split / /, $lost;
cmp_ok($found, '<', 30, "of 40 keys that are minted without slots, the proxy finds $found");


# Other calls

my ($secret, $key) = mint($node, $some_org);
is(ask($node, "SELECT key_id FROM overten_verify_key_digest(sha256('$secret'))"), $key, 'a digest leads to its server');
is(ask($node, "SELECT key_id FROM overten_admit('$secret')"), $key, 'a request is admitted through the proxy');
is(ask($node, "SELECT overten_revoke_leaked('$secret')"), 't', 'a leaked key is revoked');
is(verify($node, $secret), '', 'and refused');
like(ask($node, "SELECT string_agg(name, ',') FROM overten_list_keys('$some_org')"), qr/Key 1.*primary|primary.*Key 1/, 'the keys of an org are listed');
foreach my $call ("overten_authenticate('x')", "overten_all_orgs()", "overten_charge('key_x', 1)", "overten_erase_person('ada')",
	"overten_set_limit('org', '$some_org', 'all', 1, '1 hour')", "overten_import_key('$some_org', 'x', sha256(''), 'sk_live_0000')")
{
	is(sqlstate_of($node, "SELECT $call"), '0A000', "through the proxy there is no $call");
}

# An imported key has any digest: a row leads to it.
my $foreign = 'sk_live_' . 'A' x 28;
my $foreign_slot = ask($node, "SELECT overten_slot('$foreign')");
my $home = ask($node, "SELECT org_id FROM org WHERE overten_slot(org_id) / 256 <> $foreign_slot / 256 LIMIT 1");
ask([ $node, 's' . ask($node, "SELECT overten_slot('$home') / 256") ], "SELECT overten_import_key('$home', 'Imported', sha256('$foreign'), 'sk_live_AAAA')");
is(verify($node, $foreign), '', 'a key that was imported is not found');
ask($node, "INSERT INTO overten_proxy.imported_keys VALUES (sha256('$foreign'), overten_slot('$home'))");
like(verify($node, $foreign), qr/^key_/, 'until a row says where it is');

# A role that may not
ask($node, 'CREATE ROLE nobody_here LOGIN');
refused($node, 'nobody_here', "SELECT overten_verify_key('$secret')", '42501', 'PUBLIC may not call the proxy');
refused($node, 'nobody_here', "SELECT overten_proxy.slot_of_secret('x')", '42501', 'nor its own functions');
ask($node, 'GRANT overten_proxy_caller TO nobody_here; GRANT EXECUTE ON FUNCTION overten_verify_key(text) TO nobody_here');
refused($node, 'nobody_here', "SELECT overten_verify_key('$secret')", '42501', 'a role needs EXECUTE on the servers, too');


# A slot is moved while its keys are verified, minted and revoked.

my ($mover, $slot, $from) = split /\|/, ask($node, "SELECT org_id, slot, server FROM org JOIN overten_proxy.slots ON slot = overten_slot(org_id) WHERE org_id <> '$some_org' LIMIT 1");
my ($to) = grep { $_ ne $from } @servers;
my ($alive) = mint($node, $mover);
my ($dead, $dead_key) = mint($node, $mover);
ask($node, "SELECT overten_revoke_key('$mover', '$dead_key')");
ask($node, <<'EOQ');
CREATE TABLE outcome (at timestamptz DEFAULT clock_timestamp(), call text, result text);
CREATE FUNCTION try(call text, arg text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	CASE call
		WHEN 'verify' THEN result := coalesce((SELECT 'accepted' FROM overten_verify_key(arg)), 'refused');
		WHEN 'mint' THEN result := (SELECT secret FROM overten_mint_key(arg, 'Minted meanwhile'));
	END CASE;
	INSERT INTO outcome (call, result) VALUES (call || ' ' || arg, result);
EXCEPTION WHEN OTHERS THEN
	INSERT INTO outcome (call, result) VALUES (call || ' ' || arg, SQLSTATE);
END$$;
EOQ
my @loads = map { start_pgbench($node, @$_, '-T', 6, '-R', 100) }
  [ 'alive', "SELECT try('verify', '$alive');\n" ], [ 'dead', "SELECT try('verify', '$dead');\n" ], [ 'mint', "SELECT try('mint', '$mover');\n" ];
wait_until('the load runs', sub { ask($node, 'SELECT count(*) > 50 FROM outcome') eq 't' });
{
	local %ENV = $node->_get_env();
	system_or_bail("$top/contrib/move-slot", 'dbname=postgres', $slot, $to);
}
processed($_) foreach @loads;
is(ask($node, "SELECT server || moving FROM overten_proxy.slots WHERE slot = $slot"), "${to}false", "slot $slot is moved from $from to $to under load");
is(ask($node, "SELECT count(*) FROM outcome WHERE call = 'verify $alive' AND result = 'refused'"), 0, 'a good key is never refused');
is(ask($node, "SELECT count(*) FROM outcome WHERE call = 'verify $dead' AND result = 'accepted'"), 0, 'a revoked one is never accepted');
cmp_ok(ask($node, "SELECT count(*) FROM outcome WHERE result = '55000'"), '>', 0, 'calls fail meanwhile');
is(ask($node, "SELECT count(*) FROM overten_verify_key('$alive')"), 1, 'and not afterwards');
is(ask($node, "SELECT count(*) FROM outcome o WHERE result LIKE 'sk_live_%' AND NOT EXISTS (SELECT FROM overten_verify_key(result))"), 0,
	'each key that was minted meanwhile is accepted');
is(ask([ $node, $from ], "SELECT count(*) FROM overten_auth.orgs WHERE org_id = '$mover'"), 0, 'the old server has the org no longer');
my ($giver, $taker) = ($to, grep { $_ ne $from && $_ ne $to } @servers);

# A program that goes on, and what it says.
sub start
{
	my (@command) = @_;
	my %started = (out => '', err => '');

	local %ENV = $node->_get_env();
	$started{run} = IPC::Run::start(\@command, '>', \$started{out}, '2>', \$started{err});
	return \%started;
}

sub start_sql
{
	my ($database, $sql) = @_;

	return start('psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($database), '-c', $sql);
}

sub start_move { return start("$top/contrib/move-slot", 'dbname=postgres', @_); }

# What it has printed on standard output; on standard error, if it has failed.
sub result_of
{
	my ($started) = @_;

	$started->{run}->finish;
	return ($started->{run}->result(0) == 0 ? $started->{out} : $started->{err}) =~ s/\s+\z//r;
}

my $orgs_of_slot;

sub is_moved_to
{
	my ($server, $name) = @_;
	my ($old) = grep { $_ ne $server } $taker, $giver;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is(ask($node, "SELECT server || moving || (SELECT count(*) FROM overten_proxy.moves) FROM overten_proxy.slots WHERE slot = $slot"), "${server}false0", $name);
	is(ask([ $node, $server ], "SELECT count(*) FROM overten_auth.orgs WHERE overten_slot(org_id) = $slot"), $orgs_of_slot, '... with its orgs');
	is(ask([ $node, $old ], 'SELECT ' . join ' + ', map { "(SELECT count(*) FROM overten_auth.$_)" }
		"orgs WHERE overten_slot(org_id) = $slot", "api_keys WHERE overten_slot(org_id) = $slot", "credits WHERE overten_slot(org_id) = $slot",
		"key_usage u WHERE NOT EXISTS (SELECT FROM overten_auth.api_keys k WHERE k.key_id = u.key_id)"), 0, '... and nothing at the other one');
	is(join('', map { ask([ $node, $_ ], "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'overten_moving%'") } $old, $server), '', '... no copy is left');
	is(join(' ', grep { ask([ $node, $_ ], 'SHOW overten_auth.slots') =~ /\b$slot\b/ } $old, $server), $server, '... and no other server draws it');
	is(is_accepted($node, $alive), 1, '... and a good key is accepted');
	return;
}

is(result_of(start_move($slot, $giver)), "move-slot: $giver has slot $slot already", 'to where it is, it is not moved');


# What is acknowledged while a slot moves is not lost.  It moves to a server that takes
# some time to load it.  What others do begins when the rows have been read.

ask([ $node, $_ ], <<'EOQ') foreach $taker, $giver;
CREATE FUNCTION hinder() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER hinder AFTER INSERT ON overten_auth.orgs FOR EACH STATEMENT EXECUTE FUNCTION hinder();
CREATE FUNCTION hinder_at_last() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE CONSTRAINT TRIGGER hinder_at_last AFTER DELETE ON overten_auth.orgs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hinder_at_last();
EOQ

# What the triggers do from now on
sub hinder
{
	my ($server, $what, $function) = @_;

	ask([ $node, $server ], sprintf q{CREATE OR REPLACE FUNCTION %s() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN %s; RETURN NULL; END'}, $function // 'hinder', $what);
	return;
}

# How many sessions wait for each other on a server
sub waiting { return ask([ $node, $_[0] ], "SELECT count(*) FROM pg_stat_activity WHERE datname = '$_[0]' AND wait_event_type = 'Lock'"); }

# A server goes on to load rows when the gate is opened.
sub close_gate
{
	my ($server) = @_;
	my $gate = $node->background_psql($server);

	hinder($server, q{PERFORM set_config(''lock_timeout'', ''0'', true), pg_advisory_xact_lock(1)});
	$gate->query_safe('SELECT pg_advisory_lock(1)');
	return $gate;
}

sub open_gate
{
	my ($server, $gate) = @_;

	$gate->quit;
	hinder($server, 'NULL');
	return;
}

sub has_ended
{
	my ($run) = @_;

	$run->pump_nb if $run->pumpable;
	return !$run->pumpable;
}

my %of_slot = map { $_ => ask([ $node, $giver ], "SET overten_auth.slots = '$slot'; SELECT org_id FROM overten_create_org('$_')") } 'suspended', 'closed';
$orgs_of_slot = ask([ $node, $giver ], "SELECT count(*) FROM overten_auth.orgs WHERE overten_slot(org_id) = $slot");
my %key = map { $_ => [ mint($node, $mover) ] } qw(snapshot statement direct leaked limited);
my ($suspended) = mint($node, $of_slot{suspended});
my ($closed) = mint($node, $of_slot{closed});
ask([ $node, $giver ], "SELECT overten_grant('$mover', 100, 'test'), overten_hold('$mover', 10, 'held', '1 hour')");
ask($node, "SELECT overten_verify_key('$alive') FROM generate_series(1, 5)");
my $neighbor = ask([ $node, $giver ], "SELECT org_id FROM overten_auth.orgs WHERE overten_slot(org_id) <> $slot LIMIT 1");
ask([ $node, $giver ], "SELECT overten_add_member('$mover', uid) FROM unnest('{adam, eve}'::text[]) uid");
my $alive_key = verify($node, $alive);
flush_usage([ $node, $giver ]);
my $used = uses([ $node, $giver ], $alive_key);
cmp_ok($used, '>', 5, 'uses are in the history');
my $old = $node->background_psql('postgres', on_error_stop => 0);
$old->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM overten_proxy.slots LIMIT 1');
my %during = (statement => start_sql('postgres', "SELECT pg_sleep(2), overten_revoke_key('$mover', '$key{statement}[1]')"));
wait_until('a statement runs', sub { ask($node, "SELECT count(*) FROM pg_stat_activity WHERE datname = 'postgres' AND wait_event = 'PgSleep'") });
my $gate = close_gate($taker);
my $move = start_move($slot, $taker);
wait_until('rows are loaded', sub { waiting($taker) });
my $in_old = eval { $old->query("SELECT overten_revoke_key('$mover', '$key{snapshot}[1]')") } // '';
my %direct = (
	direct => "overten_revoke_key('$mover', '$key{direct}[1]')",
	leaked => "overten_revoke_leaked('$key{leaked}[0]')",
	suspended => "overten_set_api_access('$of_slot{suspended}', false)",
	closed => "overten_close_org('$of_slot{closed}')",
	rotated => "overten_rotate_webhook_secret('$mover')",
	limited => "overten_set_limit('key', '$key{limited}[1]', 'all', 1, '1 hour')",
	minted => "overten_mint_key('$mover')",
	spent => "overten_spend('$mover', 40, 'during')",
	erased => "overten_erase_person('eve')",
	described => "overten_set_key_details('$mover', '$key{direct}[1]', 'During', NULL)");
$during{$_} = start_sql($giver, "SELECT $direct{$_}") foreach keys %direct;
wait_until('all wait, or have an answer', sub { return waiting($giver) + (grep { has_ended($during{$_}{run}) } keys %direct) == keys %direct });
is(is_accepted([ $node, $giver ], $alive), 1, 'while rows are loaded, the old server goes on to verify');
is(sqlstate_of($node, "SELECT overten_revoke_key('$neighbor', key_id) FROM overten_mint_key('$neighbor', 'x')"), '', 'others orgs of the server change');
is(sqlstate_of($node, "SELECT overten_verify_key('$alive')"), '55000', 'the proxy refuses to ask about the slot');
is(sqlstate_of($node, "SELECT overten_list_orgs('ada')"), '55000', 'or about all orgs');
is(result_of(start('timeout', 60, "$top/contrib/move-slot", 'dbname=postgres', ($slot + 1) % 1024, $taker)), 'move-slot: another move is running at this proxy', 'no other slot is moved at the same time');
my %answer = (snapshot => $in_old);
$during{statement}{run}->finish;
is(waiting($taker), 1, 'all of this while rows were loaded');
open_gate($taker, $gate);
is(result_of($move), '', 'the slot is moved');
eval { $old->quit };
$answer{$_} = $during{$_}{run}->finish && $during{$_}{out} =~ s/\s+\z//r foreach keys %during;
is_moved_to($taker, "slot $slot is there");
is($answer{snapshot}, '', 'a transaction at the proxy that began before the move revokes nothing');
is($answer{$_} // '', '', "at the old server, nobody is told of anything that would be lost: $_") foreach sort keys %direct;
is(is_accepted($node, $key{$_}[0]), $answer{$_} ? '' : 1, "what was acknowledged counts: $_") foreach qw(snapshot statement direct leaked);
is(is_accepted($node, $suspended), $answer{suspended} ? '' : 1, 'what was acknowledged counts: suspended');
is(is_accepted($node, $closed), $answer{closed} ? '' : 1, 'what was acknowledged counts: closed');
is(ask($node, "SELECT string_agg(balance || ' ' || held, '') FROM overten_credit_balance('$mover')"), $answer{spent} ? '60 10' : '100 10', 'what was acknowledged counts: credits');
is(ask([ $node, $taker ], "SELECT c.balance = (SELECT sum(amount) FROM overten_auth.credit_ledger l WHERE l.org_id = c.org_id) AND c.held = (SELECT sum(amount) FROM overten_auth.credit_holds h WHERE h.org_id = c.org_id)
	FROM overten_auth.credits c WHERE c.org_id = '$mover'"), 't', 'credits, ledger and holds agree');
flush_usage([ $node, $taker ]);
is(uses([ $node, $taker ], $alive_key) - $used, 1, 'no use is lost');
is(ask([ $node, $taker ], "SELECT count(*) FROM overten_auth.members WHERE org_id = '$mover' AND uid = 'eve'"), $answer{erased} ? 0 : 1, 'what was acknowledged counts: erased');
is(sqlstate_of($node, "SELECT overten_revoke_key('$mover', '$key{direct}[1]')"), '', 'a key is revoked afterwards');
is(is_accepted($node, $key{direct}[0]), '', 'and refused');


# A move that fails, or is killed

hinder($giver, q{RAISE ''not today''});
like(result_of(start_move($slot, $giver)), qr/not today\n.*slot $slot stays at $taker$/s, 'rows cannot be loaded: the slot stays');
is_moved_to($taker, '... where it is');
hinder($giver, 'NULL');
hinder($taker, q{RAISE ''not at last''}, 'hinder_at_last');
like(result_of(start_move($slot, $giver)), qr/not at last\n.*slot $slot stays at $taker$/s, 'they cannot be deleted, when they are loaded: the slot stays');
is_moved_to($taker, '... where it is');
hinder($taker, 'NULL', 'hinder_at_last');

$gate = close_gate($giver);
$move = start_move($slot, $giver);
wait_until('rows are loaded', sub { waiting($giver) });
$move->{run}->signal('TERM');
like(result_of($move), qr/^move-slot: slot $slot stays at $taker$/m, 'the move is told to end: the slot stays');
is_moved_to($taker, '... where it is');
$move = start_move($slot, $giver);
wait_until('rows are loaded', sub { waiting($giver) });
$move->{run}->signal('KILL');
wait_until('it holds no lock', sub { ask($node, "SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())") eq 't' });
is(sqlstate_of($node, "SELECT overten_verify_key('$alive')"), '55000', 'the move is killed: the slot is moving');
like(result_of(start_move(($slot + 1) % 1024, $giver)), qr/the move of slot $slot has not ended/, 'no other slot is moved');
open_gate($giver, $gate);
$move->{run}->finish;
is(result_of(start_move($slot, $giver)), '', 'the move is repeated');
is_moved_to($giver, '... and succeeds');

# The rows are where they are tried only while the transaction that has made the copy runs.
ask([ $node, $taker ], 'CREATE ROLE anon_there; ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO anon_there; ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO anon_there');
hinder($taker, qq{IF (SELECT xmin <> pg_current_xact_id()::xid FROM pg_namespace WHERE nspname = ''overten_moving_$slot'') THEN RAISE ''not any more''; END IF});
like(result_of(start_move($slot, $taker)), qr/not any more\n.*still marked as moving.*run this again/s, 'the copy cannot be used, when the rows are deleted: the slot is moving');
is(sqlstate_of($node, "SELECT overten_verify_key('$alive')"), '55000', '... and no key is refused');
is(ask([ $node, $_ ], "SELECT count(*) FROM overten_auth.orgs WHERE overten_slot(org_id) = $slot"), 0, '... its orgs are at no server') foreach $giver, $taker;
is(ask([ $node, $taker ], "SELECT has_schema_privilege('anon_there', 'overten_moving_$slot', 'USAGE')"), 'f', '... and default privileges let nobody see them');
hinder($taker, 'NULL');
# A failover can have lost what the proxy knew.
ask($node, 'UPDATE overten_proxy.slots SET moving = false; DELETE FROM overten_proxy.moves');
is(result_of(start_move($slot, $taker)), '', 'the move is repeated, even if the proxy does not know of it any more');
is_moved_to($taker, '... and finished');

ask($node, <<'EOQ');
CREATE FUNCTION hinder() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no other map'; END$$;
CREATE TRIGGER hinder BEFORE UPDATE ON overten_proxy.slots FOR EACH ROW WHEN (NEW.server <> OLD.server) EXECUTE FUNCTION hinder();
EOQ
like(result_of(start_move($slot, $giver)), qr/no other map\n.*still marked as moving.*run this again/s, 'the map cannot be changed, when the rows are deleted: the slot is moving');
is(sqlstate_of($node, "SELECT overten_verify_key('$alive')"), '55000', '... and no key is refused');
ask($node, 'DROP TRIGGER hinder ON overten_proxy.slots');
is(result_of(start_move($slot, $giver)), '', 'the move is repeated');
is_moved_to($giver, '... and finished');


# The gateway

my $gateway = start_gateway($node, 'gateway', API_KEY_HEADER => 'X-API-Key');
my $url = $gateway->{url};
my @json = ('Content-Type: application/json');
my ($ada, $bob) = map { 'Authorization: Bearer ' . sign($_) } 'ada', 'bob';

sub answer
{
	my ($method, $path, $headers, $body) = @_;
	my $response = request($url, $method, "/api/v1$path", $headers, $body);

	return ($response->{status}, $response->{body} ? decode_json($response->{body}) : {});
}

# What the page for customers says.
my ($status, $signed_up) = answer('POST', '/signup', [ $ada, @json ], '{ "org_name": "Acme Docs", "tier": "free", "key_name": "primary" }');
is($status, 201, 'a person signs up through the gateway and the proxy') or diag(explain($signed_up));
my $org = $signed_up->{org_id};
($status, my $verified) = answer('GET', '/verify', ["Authorization: Bearer $signed_up->{secret}"]);
is($status, 200, 'the first key is accepted');
is_deeply($verified, { org_id => $org, org_name => 'Acme Docs', tier => 'free', webhook_secret => $signed_up->{webhook_secret}, key_prefix => substr($signed_up->{secret}, 0, 12) },
	'with what the page shows');
($status, my $primary) = answer('GET', "/organizations/$org/api-keys", [$ada]);
is_deeply([ sort keys %{ $primary->{items}[0] } ], [qw(created_at key_id last_used_at name prefix revoked_at)], 'the list has what the page shows');
is(ask($node, "SELECT overten_slot('$org') / 256 = overten_slot('ada') / 256"), 't', 'on the home server of the person');
($status, my $list) = answer('GET', '/organizations', [$ada]);
is($status, 200, 'the person lists the orgs');
is(join(',', map { $_->{org_id} } @{ $list->{items} }), $org, 'which is that one');
my $other_org = ask($node, "SELECT o.org_id FROM generate_series(1, 30) n, overten_create_org('Other ' || n) o WHERE overten_slot(o.org_id) / 256 <> overten_slot('ada') / 256 LIMIT 1");
ask($node, "SELECT overten_set_api_access('$other_org', true), overten_add_member('$other_org', 'ada')");
($status, $list) = answer('GET', '/organizations', [$ada]);
is(join(',', sort map { $_->{org_id} } @{ $list->{items} }), join(',', sort $org, $other_org), 'or both, if one is on another server');
foreach my $member_of ($org, $other_org)
{
	($status, my $minted) = answer('POST', "/organizations/$member_of/api-keys", [ $ada, @json ], '{ "name": "ci-tests" }');
	is($status, 201, 'a key is minted') or diag(explain($minted));
	my $bearer = "Authorization: Bearer $minted->{secret}";
	is((answer('GET', '/verify', [$bearer]))[0], 200, 'and accepted');
	is(request($gateway->{authorize_url}, 'GET', '/authorize', [$bearer])->{status}, 200, 'for a service, too');
	is((answer('GET', '/verify', [ $bearer =~ s/Authorization: Bearer/X-API-Key:/r ]))[0], 200, 'and in a header of its own');
	my $key_id = $minted->{key_id};
	is((answer('GET', "/organizations/$member_of/api-keys/$key_id/usage", [$ada]))[0], 200, 'its usage is shown');
	is((answer('DELETE', "/organizations/$member_of/api-keys/$key_id", [$ada]))[0], 204, 'it is revoked');
	is((answer('GET', '/verify', [$bearer]))[0], 401, 'and refused');
}
my $code = ask($node, "SELECT code FROM overten_invite('$other_org')");
is((answer('POST', '/invitations/accept', [ $bob, @json ], qq({"code": "$code"})))[0], 200, 'an invitation is accepted, wherever the org is');
is((answer('POST', '/invitations/accept', [ $bob, @json ], '{"code": "inv_0000000000000000000000000000"}'))[0], 404, 'another is not found');
is((answer('GET', "/organizations/$org/api-keys", [$bob]))[0], 404, 'a stranger finds no org');
is((answer('GET', '/organizations', ['Authorization: Bearer a.b.c']))[0], 401, 'a token that is none is refused');
is((answer('GET', '/verify', ["Authorization: Bearer $foreign"]))[0], 200, 'a key that was imported is accepted');

# What the proxy reads before a server does
my %strange = (
	'as deep as can be' => '[' x 24_200,
	'not JSON' => '{"sub": ',
	'empty' => '',
	'an array' => '["sub"]',
	'null' => 'null',
	'with a number' => '{"sub": 1e999999, "existing_org_id": 1e999999}',
	'with an object' => '{"sub": {"a": "\\ud800"}, "existing_org_id": {"a": "\\ud800"}}',
	'with a NUL' => '{"sub": "\\u0000", "existing_org_id": "\\u0000"}',
	'with half a character' => '{"sub": "\\ud800", "existing_org_id": "\\ud800"}',
	'not UTF-8' => "{\"sub\": \"\xff\", \"existing_org_id\": \"\xff\"}",
	'long' => '{"sub": "' . 'x' x 5_000 . '", "existing_org_id": "' . 'x' x 5_000 . '"}');
foreach my $what (sort keys %strange)
{
	my $bearer = 'Authorization: Bearer a.' . encode_base64url($strange{$what}) . '.c';

	is((answer('GET', "/organizations/$org/api-keys", [$bearer]))[0] . ' ' . (answer('GET', '/verify', [$bearer]))[0], '401 401', "claims: $what");
	is((answer('POST', '/signup', [ $ada, @json ], substr $strange{$what}, 0, 16_000))[0], $what eq 'long' ? 404 : 400, "a body: $what");
}
is((answer('GET', '/verify', ['Authorization: Bearer a.!.c']))[0], 401, 'claims: not base64');
is((answer('GET', "/organizations/$_/api-keys", [$ada]))[0], $_ eq '%00' ? 400 : 404, "an org: $_") foreach '%00', '%ff', '.', 'x' x 5_000;

# A server is away.
ask($node, "UPDATE overten_proxy.servers SET conninfo = conninfo || ' port=1' WHERE server = 's' || overten_slot('$org') / 256");
is((answer('GET', "/organizations/$org/api-keys", [$ada]))[0], 503, 'while a server is away, its orgs get 503');
is((answer('GET', "/organizations/$other_org/api-keys", [$ada]))[0], 200, 'and others are served');
ask($node, "UPDATE overten_proxy.servers SET conninfo = regexp_replace(conninfo, ' port=1\$', '')");
is((answer('GET', "/organizations/$org/api-keys", [$ada]))[0], 200, 'when it is back, all are');
is(stop_process($gateway), 0, 'the gateway ends');

$node->stop;
done_testing();
