
# Timeouts and cancels at random moments of every function, and flushes that
# fail: nothing is left half done, no lock and no snapshot is left behind, and no
# use is lost.  The largest input keeps no function from being cancelled in time.
# pg_regress has one session at a time and no worker.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use IPC::Run;
use OvertenTest;
use POSIX qw(sysconf _SC_CLK_TCK);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use WholeSurface;

my $node = create_node('interrupted', surface_settings('postgres'));
ask($node, "INSERT INTO overten_auth.tiers VALUES ('pro', false);
	CREATE INDEX ON overten_auth.audit_log (key_id)");

# What must hold whatever was interrupted, with the number of rows that break it.
my %rules = (
	'a key has a row for its last use' =>
	  'api_keys k WHERE NOT EXISTS (SELECT FROM overten_auth.key_last_used u WHERE u.key_id = k.key_id)',
	'such a row has a key' =>
	  'key_last_used u WHERE NOT EXISTS (SELECT FROM overten_auth.api_keys k WHERE k.key_id = u.key_id)',
	'a key is in the audit log once, minted or imported' =>
	  q{api_keys k WHERE (SELECT count(*) FROM overten_auth.audit_log a WHERE a.key_id = k.key_id AND action IN ('mint_key', 'import_key')) <> 1},
	'a minted key in the log is there' =>
	  q{audit_log a WHERE action IN ('mint_key', 'import_key') AND NOT EXISTS (SELECT FROM overten_auth.api_keys k WHERE k.key_id = a.key_id)},
	'a revoked key is in the log once as that, an active one not' =>
	  q{api_keys k WHERE (SELECT count(*) FROM overten_auth.audit_log a WHERE a.key_id = k.key_id AND action LIKE 'revoke%') <> (revoked_at IS NOT NULL)::int},
	'an org is in the log as created' =>
	  q{orgs o WHERE (SELECT count(*) FROM overten_auth.audit_log a WHERE a.org_id = o.org_id AND action = 'create_org') <> 1},
	'who signed up is a member and has a key' =>
	  q{orgs o WHERE name = 'Signed up' AND NOT (EXISTS (SELECT FROM overten_auth.members m WHERE m.org_id = o.org_id)
		AND EXISTS (SELECT FROM overten_auth.api_keys k WHERE k.org_id = o.org_id) AND api_access_since IS NOT NULL)},
	'webhook secrets are sealed' => 'orgs WHERE get_byte(webhook_secret_sealed, 0) <> 1',
	'a set of signing keys is there as a whole' =>
	  'signing_keys HAVING count(*) NOT IN (1, 2)');

sub check_rules
{
	my ($when) = @_;

	is(ask($node, "SELECT count(*) FROM (SELECT FROM overten_auth.$rules{$_}) broken"), 0, "$when: $_")
	  foreach sort keys %rules;
	return;
}

my $org = create_org($node, 'Interrupted');
my ($secret, $key) = mint($node, $org);
my ($revoked, $revoked_key) = mint($node, $org);
ask($node, "SELECT overten_revoke_key('$org', '$revoked_key')");
my $one = surface_document('key-1');
my $two = surface_document('key-1', 'key-2');
ask($node, "SELECT overten_load_signing_keys('$one')");
my $token = surface_token('ada');

# One session does everything over and over, committing what it can; what is
# interrupted is an error that it notes.
ask($node, <<'EOQ');
CREATE TABLE stop (); CREATE TABLE outcome (function text, sqlstate text, times int, PRIMARY KEY (function, sqlstate));
CREATE PROCEDURE go_on(VARIADIC statements text[]) LANGUAGE plpgsql AS $$
DECLARE
	state text;
	statement text;
BEGIN
	WHILE to_regclass('stop') IS NOT NULL LOOP
		FOREACH statement IN ARRAY statements LOOP
			state := '00000';
			BEGIN
				EXECUTE replace(statement, '?', trunc(random() * 1e15)::text);
			EXCEPTION WHEN OTHERS OR query_canceled THEN
				state := SQLSTATE;
			END;
			BEGIN
				INSERT INTO outcome VALUES (substring(statement, 'overten_\w+'), state, 1)
					ON CONFLICT (function, sqlstate) DO UPDATE SET times = outcome.times + 1;
			EXCEPTION WHEN query_canceled THEN
				NULL;
			END;
			COMMIT;
		END LOOP;
	END LOOP;
END
$$;
EOQ
my @statements = (
	"SELECT overten_create_org('Made')",
	"SELECT overten_signup('person?', 'Signed up')",
	"SELECT overten_add_member('$org', 'x?')",
	"SELECT overten_set_tier('$org', CASE ? % 2 WHEN 0 THEN 'free' ELSE 'pro' END)",
	"SELECT overten_set_api_access('$org', true)",
	"SELECT overten_mint_key('$org')",
	"SELECT overten_revoke_key(org_id, key_id) FROM overten_auth.api_keys WHERE org_id = '$org' AND revoked_at IS NULL AND key_id <> '$key' LIMIT 1",
	"SELECT overten_revoke_leaked((overten_mint_key('$org')).secret)",
	"SELECT overten_mint_key(org_id), overten_mint_key(org_id), overten_revoke_all(org_id) FROM overten_create_org('Emptied')",
	"SELECT overten_import_key('$org', 'x', sha256('?'), 'sk_live_0000')",
	"SELECT overten_import_keys(array_agg('$org'::text), array_agg('x'::text), array_agg(sha256(('? ' || i)::bytea)), array_agg('sk_live_0000'::text)) FROM generate_series(1, 50) i",
	"SELECT overten_rotate_webhook_secret('$org')",
	"SELECT overten_rotate_key(org_id, key_id), overten_set_key_details(org_id, key_id, 'x?', '{}'), overten_revoke_keys_of('x?') FROM overten_mint_key('$org')",
	"SELECT overten_rename_key('$org', '$key', 'name ?')",
	"SELECT overten_sign_webhook('$org', 'msg', 1, 'x'::text)",
	'SELECT overten_reseal()',
	"SELECT overten_load_signing_keys('$one')",
	"SELECT overten_load_signing_keys('$two')",
	"SELECT overten_verify_firebase_jwt('$token')",
	"SELECT overten_verify_key('$secret')",
	"SELECT overten_authenticate('$secret')",
	"SELECT overten_key_usage('$org', '$key'), overten_org_usage('$org', now() - interval '1 day', now())",
	"SELECT overten_key_anomalies('$org', '$key')",
	"SELECT overten_list_keys('$org') LIMIT 1",
	"SELECT overten_handle_request('GET', '/api/v1/verify', '{\"authorization\": \"Bearer $secret\"}', NULL)",
	'SELECT overten_status()');
my $call = 'CALL go_on(' . join(', ', map { '$q$' . $_ . '$q$' } @statements) . ");\n";

my $worker = $node->background_psql('postgres', on_error_stop => 0);
$worker->set_query_timer_restart;
my $pid = ask($worker, 'SET client_min_messages = error; SELECT pg_backend_pid()');
my $from = -s $node->logfile;
$worker->query_until(qr/started/, "\\echo started\n$call");
my $canceler = $node->background_psql('postgres');
$canceler->set_query_timer_restart;
my $until = time + 12;
my $cancels = 0;
while (time < $until)
{
	usleep(int rand 20_000);
	ask($canceler, "SELECT pg_cancel_backend($pid)");
	$cancels++;
	# Cancelled outside of a handler, the call ends; go on.
	if (ask($canceler, "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid AND state = 'idle'"))
	{
		$worker->query_until(qr/again/, "\\echo again\n$call");
		# Until psql has sent it, the session would be taken for one whose call has ended.
		wait_until('it goes on', sub { ask($canceler, "SELECT state FROM pg_stat_activity WHERE pid = $pid") eq 'active' });
	}
}
ask($node, 'DROP TABLE stop');
$worker->query('SELECT 1');
$worker->{stderr} = '';
is(verify($worker, $secret), $key, "after $cancels cancels the session itself verifies");
is(verify($worker, $revoked), '', 'and refuses');
is(ask($worker, 'SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation::regclass::text ~ \'overten\''),
	0, 'no lock is left');
check_rules('after cancels');
cmp_ok(ask($node, q{SELECT coalesce(sum(times), 0) FROM outcome WHERE sqlstate = '57014'}), '>', 20, 'they hit functions');
is(ask($node, q{SELECT string_agg(DISTINCT function || ' ' || sqlstate, ', ') FROM outcome WHERE sqlstate NOT IN ('00000', '57014')}),
	'', 'with no other error');
is(ask($node, q{SELECT string_agg(function, ' ') FROM (SELECT function FROM outcome GROUP BY 1 HAVING NOT bool_or(sqlstate = '00000')) f}),
	'', 'each function succeeded, too');

# Each call in a transaction of its own, with a timeout of about its length.
my %timed;
foreach my $round (1 .. 40)
{
	my $milliseconds = 1 + $round % 3;
	my $number = 1_000_000 * $round;
	my $sql = join '', map { $number++; (s/\?/$number/gr) . ";\n" } @statements;

	$node->psql('postgres',
		"\\set VERBOSITY sqlstate\nSET statement_timeout = '${milliseconds}ms';\n$sql",
		on_error_stop => 0, stderr => \my $messages);
	$timed{$1}++ while $messages =~ /(?:ERROR|FATAL|PANIC):  (\w+)/g;
}
is(join(' ', grep { $_ ne '57014' } sort keys %timed), '', 'timeouts raise 57014 and nothing else');
cmp_ok($timed{57014} // 0, '>', 20, 'they do: ' . ($timed{57014} // 0));
check_rules('after timeouts');
is(ask($node, q{SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = relation
	WHERE c.relnamespace = 'overten_auth'::regnamespace AND pid <> pg_backend_pid()}), 0, 'nobody holds a lock');
my $log = slurp_file($node->logfile, $from);
unlike($log, qr/still active| leak: |PANIC|terminated by signal|TRAP/, 'no snapshot, reference or process is lost');


# A flush that fails at any place writes nothing, and the next one everything.

sub uses_of
{
	return ask($node, "SELECT sum(accepted) FROM overten_auth.key_usage WHERE key_id = '$key'");
}

ask($node, 'SELECT overten_flush_usage()');
ask($node, <<'EOQ');
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF current_setting('test.fail', true) = format('%s %s', lower(TG_WHEN), TG_TABLE_NAME) THEN
		RAISE EXCEPTION 'told to fail';
	END IF;
	RETURN coalesce(NEW, OLD);
END
$$;
CREATE TRIGGER a_fail BEFORE INSERT OR UPDATE ON overten_auth.key_usage FOR EACH ROW EXECUTE FUNCTION fail();
CREATE TRIGGER z_fail AFTER INSERT OR UPDATE ON overten_auth.key_usage FOR EACH ROW EXECUTE FUNCTION fail();
CREATE TRIGGER a_fail BEFORE INSERT OR UPDATE ON overten_auth.key_last_used FOR EACH ROW EXECUTE FUNCTION fail();
CREATE TRIGGER z_fail AFTER INSERT OR UPDATE ON overten_auth.key_last_used FOR EACH ROW EXECUTE FUNCTION fail();
CREATE TRIGGER a_fail BEFORE INSERT OR UPDATE OR DELETE ON overten_auth.signing_keys FOR EACH ROW EXECUTE FUNCTION fail();
CREATE TRIGGER z_fail AFTER INSERT OR UPDATE OR DELETE ON overten_auth.signing_keys FOR EACH ROW EXECUTE FUNCTION fail();
CREATE TRIGGER a_fail BEFORE INSERT ON overten_auth.audit_log FOR EACH ROW EXECUTE FUNCTION fail();
EOQ
my $last_used = "SELECT last_used_at FROM overten_auth.key_last_used WHERE key_id = '$key'";
foreach my $table ('key_usage', 'key_last_used')
{
	foreach my $moment ('before', 'after')
	{
		my $before = uses_of();
		my $was = ask($node, $last_used);

		is(verify($node, $secret), $key, 'a key is used');
		ask($node, "ALTER DATABASE postgres SET test.fail = '$moment $table'");
		is(sqlstate_of($node, 'SELECT overten_flush_usage()'), '55000', "the flush fails $moment $table");
		is(uses_of(), $before, 'no use is written');
		is(ask($node, $last_used), $was, 'and no time');
		is(verify($node, $secret), $key, 'keys go on being accepted');
		like(ask($node, 'SELECT flush_failure FROM overten_status()'), qr/told to fail/, 'the state says so');
		ask($node, 'ALTER DATABASE postgres RESET test.fail');
		ask($node, 'SELECT overten_flush_usage()');
		is(uses_of(), $before + 2, 'the next flush writes each once');
		isnt(ask($node, $last_used), $was, 'and when');
	}
}

# A fetch of signing keys, likewise.
ask($node, "SELECT overten_load_signing_keys('$two')");
foreach my $place ('before signing_keys', 'after signing_keys', 'before audit_log')
{
	my $set = ask($node, 'SELECT string_agg(s::text, \' \' ORDER BY kid) FROM overten_auth.signing_keys s');

	ask($node, "ALTER DATABASE postgres SET test.fail = '$place'");
	is(sqlstate_of($node, 'SELECT overten_refresh_signing_keys()'), '55000', "fetching fails $place");
	is(ask($node, 'SELECT string_agg(s::text, \' \' ORDER BY kid) FROM overten_auth.signing_keys s'), $set, 'and changes nothing');
	ask($node, 'ALTER DATABASE postgres RESET test.fail');
}
is(ask($node, 'SELECT overten_refresh_signing_keys()'), 1, 'then it succeeds');


# Whatever the size of its input, a call ends in time: by itself or with
# statement_timeout.  The measure is the time of the processor that it takes, as a busy
# machine stretches any other; one that waited for ever would run into psql's limit.

my $sized = $node->background_psql('postgres', on_error_stop => 0);
$sized->set_query_timer_restart;
ask($sized, <<"EOQ");
CREATE TEMP TABLE given AS SELECT
	json_build_object('authorization', 'Bearer $token', 'content-type', 'application/json', 'x-overten-org-id', '$org', 'x-overten-key-id', '$key') AS headers,
	'/api/v1/organizations/$org/api-keys' AS keys,
	repeat('&', 2000000) AS query, repeat(' ', 100000000) AS spaces, repeat('x', 100000000) AS letters,
	('"' || repeat('x', 100000000) || '"')::json AS long_string,
	(SELECT '{"keys":[' || string_agg('{}', ',') || ']}' FROM generate_series(1, 87000))::json AS empty_keys,
	(SELECT '{"keys":[' || string_agg(json_build_object('kty', 'RSA', 'kid', i, 'e', 'AQAB', 'n', repeat('_', 2700))::text, ',') || ']}' FROM generate_series(1, 90) i)::json AS large_keys;
INSERT INTO overten_auth.key_usage
SELECT '$key', hour, ('10.0.0.' || i)::inet, 1, 0, hour, hour
FROM generate_series(date_trunc('hour', now()) - interval '700 hours', now() - interval '1 hour', interval '1 hour') hour, generate_series(1, 60) i;
SELECT overten_add_member('$org', 'ada'), overten_set_api_access('$org', true);
EOQ
my $sized_pid = ask($sized, 'SELECT pg_backend_pid()');

# The seconds that a process has had a processor for.
sub processor_time
{
	my ($process) = @_;
	my @stat = split ' ', slurp_file("/proc/$process/stat") =~ s/.*\) //sr;

	return ($stat[11] + $stat[12]) / sysconf(_SC_CLK_TCK);
}

my $request = sub { return "SELECT status FROM given, overten_handle_request($_[0])" };
my %largest = (
	'2 MB of query' => $request->("'GET', keys || '/$key/usage?' || query, headers, NULL"),
	'8 kB of query' => $request->("'GET', keys || '/$key/usage?' || left(query, 8000), headers, NULL"),
	'100 MB of path' => $request->("'GET', '/api/v1/' || letters, headers, NULL"),
	'100 MB of method' => $request->("letters, '/api/v1/verify', headers, NULL"),
	'100 MB of body' => $request->("'POST', '/api/v1/signup', headers, letters"),
	'100 MB of bytes' => $request->("'POST', '/api/v1/signup', headers, letters::bytea"),
	'16 kB of members' => $request->("'POST', '/api/v1/signup', headers, (SELECT '{' || string_agg(format('\"\\u0061%s\":{}', i), ',') || '}' FROM generate_series(1, 256) i)"),
	'16 kB of brackets' => $request->("'POST', '/api/v1/signup', headers, repeat('[', 16384)"),
	'10 MB of header' => $request->("'GET', '/api/v1/verify', json_build_object('authorization', left(letters, 10000000)), NULL"),
	'250 kB of addresses' => 'SET overten_auth.trust_forwarded_for = 100; ' . $request->("'GET', '/api/v1/verify', json_build_object('authorization', 'Bearer x', 'x-forwarded-for', repeat(',', 250000)), NULL"),
	'a long history over HTTP' => $request->("'GET', keys || '/$key/usage?since=' || to_char(timezone('UTC', now() - interval '30 days'), 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), headers, NULL"),
	'a long history' => "SELECT count(*) FROM overten_key_usage('$org', '$key', now() - interval '30 days')",
	'2 MB of query for PostgREST' => q{SELECT set_config('request.headers', (headers::jsonb || jsonb_build_object('x-overten-query', query))::text, false) IS NULL FROM given; SELECT overten_api.key_usage() ->> 'error'},
	'100 MB of arguments for PostgREST' => q{SELECT set_config('request.headers', headers::text, false) IS NULL FROM given; SELECT overten_api.key_usage(letters, letters, letters, letters) ->> 'error' FROM given},
	'100 MB of body for PostgREST' => q{SELECT overten_api.signup(long_string) ->> 'error' FROM given},
	'100 MB of spaces as a name' => "SELECT overten_mint_key('$org', spaces) FROM given",
	'100 MB of spaces as the name of an org' => 'SELECT overten_create_org(spaces) FROM given',
	'100 MB of spaces as a reason' => "SELECT overten_revoke_all('$org', spaces) FROM given",
	'100 MB of uid' => "SELECT overten_add_member('$org', letters) FROM given",
	'100 MB of key' => 'SELECT count(key_id) FROM given, overten_verify_key(letters)',
	'100 MB of token' => 'SELECT overten_verify_firebase_jwt(letters) FROM given',
	'16 kB of token' => "SELECT overten_verify_firebase_jwt(repeat('eyJhIjp7', 1000) || '.' || repeat('eyJhIjp7', 1000) || '.x')",
	'100 MB of webhook' => "SELECT overten_sign_webhook('$org', 'msg', 1, letters) FROM given",
	'16 MB of webhook' => "SELECT overten_sign_webhook('$org', 'msg', 1, left(letters, 16000000)) FROM given",
	'87,000 keys without a form' => 'SELECT overten_load_signing_keys(empty_keys) FROM given',
	'90 keys of 16 kbit' => 'SELECT overten_load_signing_keys(large_keys) FROM given',
	'100 MB of document' => 'SELECT overten_load_signing_keys(long_string) FROM given',
	'300,000 keys to import' => "SELECT overten_import_keys(array_agg('$org'::text), array_agg('x'::text), array_agg(sha256(i::text::bytea)), array_agg('sk_live_0000'::text)) FROM generate_series(1, 300000) i");
foreach my $name (sort keys %largest)
{
	my $begun = processor_time($sized_pid);

	$sized->query("SET statement_timeout = '300ms'; $largest{$name}; SET statement_timeout = 0; ROLLBACK");
	cmp_ok(processor_time($sized_pid) - $begun, '<', 5, "$name ends in time");
	note($sized->{stderr}) if $sized->{stderr} ne '';
	$sized->{stderr} = '';
}
$sized->quit;

$node->stop;
done_testing();
