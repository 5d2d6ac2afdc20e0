
# At random: sessions that verify or ask a limit, flushes one after the other, and readers who know
# at each moment how many uses were answered, and how many had begun.  Sequences tell
# them, because everybody sees these at once.  pg_regress has no preloaded library.

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
	'random', <<'EOC');
shared_preload_libraries = 'overten_auth'
overten_auth.databases = 'postgres'
overten_auth.flush_interval = 1s
overten_auth.signing_keys_command = ''
EOC
my $keys = 4;
my $verifiers = 2;
my $random_org = create_org($node, 'Random');
ask($node, <<"EOQ");
CREATE TABLE watched AS
	SELECT n, m.key_id, m.secret FROM generate_series(1, $keys) n, overten_mint_key('$random_org', 'key ' || n) m;
-- The last of them is used after it was revoked; and idle ones make reading the org take longer.
SELECT overten_revoke_key('$random_org', key_id) FROM watched WHERE n = $keys;
-- Of the requests that ask it, the limit of the others refuses every other one or so.
SELECT overten_set_limit('tier', 'free', 'fast', 1, '1 second');
SELECT count(m.key_id) FROM generate_series(1, 1000) n, overten_mint_key('$random_org', 'idle ' || n) m;
DO \$\$
BEGIN
	FOR n IN 1 .. $keys LOOP
		EXECUTE format('CREATE SEQUENCE begun_%s MINVALUE 0', n);
		EXECUTE format('CREATE SEQUENCE answered_%s MINVALUE 0', n);
		FOR client IN 0 .. $verifiers - 1 LOOP
			EXECUTE format('CREATE SEQUENCE used_at_%s_%s', n, client);
		END LOOP;
	END LOOP;
END
\$\$;
CREATE FUNCTION use(n int, client int) RETURNS void LANGUAGE plpgsql AS \$\$
DECLARE
	k text;
	at bigint;
BEGIN
	SELECT secret INTO k FROM watched w WHERE w.n = use.n;
	PERFORM nextval('begun_' || n);
	at := extract(epoch FROM clock_timestamp()) * 1000000;
	IF random() < 0.5 THEN
		PERFORM key_id FROM overten_verify_key(k);
	ELSE
		PERFORM key_id FROM overten_admit(k);
	END IF;
	IF FOUND THEN
		PERFORM setval(format('used_at_%s_%s', n, client), at);
	END IF;
	PERFORM nextval('answered_' || n);
END
\$\$;
CREATE FUNCTION value_of(name text) RETURNS bigint LANGUAGE plpgsql AS \$\$
DECLARE
	value bigint;
BEGIN
	EXECUTE format('SELECT last_value + is_called::int FROM %I', name) INTO value;
	RETURN value;
END
\$\$;
CREATE FUNCTION last_answer(n int) RETURNS bigint LANGUAGE sql AS
	\$\$SELECT max(value_of(format('used_at_%s_%s', n, client))) - 1 FROM generate_series(0, $verifiers - 1) client\$\$;
-- A value that never decreases, between what was before and after the reading.
CREATE FUNCTION check_value(what text, lowest bigint, value bigint, highest bigint) RETURNS void LANGUAGE plpgsql AS \$\$
DECLARE
	seen bigint := coalesce(nullif(current_setting('seen.' || what, true), ''), '0');
BEGIN
	IF value IS NULL OR value NOT BETWEEN lowest AND highest OR value < seen THEN
		RAISE EXCEPTION '%: read %, of at least % and at most %, after %', what, value, lowest, highest, seen;
	END IF;
	PERFORM set_config('seen.' || what, value::text, false);
END
\$\$;
CREATE FUNCTION look(n int, how int) RETURNS void LANGUAGE plpgsql AS \$\$
DECLARE
	key text;
	lowest bigint;
	highest bigint;
	value bigint;
BEGIN
	SELECT key_id INTO key FROM watched w WHERE w.n = look.n;
	IF how = 0 AND n < $keys THEN
		lowest := last_answer(n);
		SELECT extract(epoch FROM last_used_at) * 1000000 INTO value FROM overten_list_keys('$random_org') l WHERE l.key_id = key;
		highest := extract(epoch FROM clock_timestamp()) * 1000000;
		PERFORM check_value('used_at_' || n, lowest, coalesce(value, 0), highest);
		RETURN;
	END IF;
	lowest := value_of('answered_' || n);
	IF how = 1 THEN
		SELECT coalesce(sum(accepted + refused + limited), 0) INTO value FROM overten_key_usage('$random_org', key);
	ELSIF how = 2 AND n = $keys THEN
		SELECT coalesce(sum(observed), 0) INTO value FROM overten_key_anomalies('$random_org', key) WHERE kind = 'used_after_revocation';
	ELSE
		SELECT coalesce(sum(accepted + refused + limited), 0) INTO value
		FROM overten_org_usage('$random_org', now() - interval '1 day', now() + interval '1 day') u WHERE u.key_id = key;
	END IF;
	highest := value_of('begun_' || n);
	PERFORM check_value('uses_' || n, lowest, value, highest);
END
\$\$;
EOQ

my $random = "\\set n random(1, $keys)\n\\set how random(0, 2)\n";
my @always = ('-M', 'prepared', '-T', $ENV{OVERTEN_READ_SECONDS} // 8);
my @loads = (
	start_pgbench($node, 'use', "$random SELECT use(:n, :client_id);", @always, '-c', $verifiers),
	start_pgbench($node, 'look', "$random SELECT look(:n, :how);", @always, '-c', 3),
	start_pgbench($node, 'look_in_transaction',
		"$random BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT look(:n, :how); SELECT look(:n, 1); SELECT look(:n, 2); COMMIT;", @always),
	start_pgbench($node, 'flush', 'SELECT overten_flush_usage();', @always));
foreach my $load (@loads)
{
	my $done = $load->{run}->finish;
	my ($count) = $load->{out} =~ /^number of transactions actually processed: (\d+)/m;

	ok($done && $load->{err} !~ /ERROR/, "at random: $load->{name}, " . ($count // 0) . ' times')
	  or diag($load->{err});
}
my $all = "SELECT string_agg((SELECT coalesce(sum(accepted + refused + limited), 0) FROM overten_key_usage('$random_org', key_id))
	|| ' of ' || value_of('answered_' || n), ', ' ORDER BY n) FROM watched";
my $exact = ask($node, "SELECT string_agg(value_of('begun_' || n) || ' of ' || value_of('answered_' || n), ', ' ORDER BY n) FROM watched");
is(ask($node, $all), $exact, "at the end each key's count is right: $exact");
flush_usage($node);
is(ask($node, $all), $exact, 'and after a last flush');
is(ask($node, "SELECT string_agg(concat_ws(' ', accepted > 0, refused > 0, limited > 0), ', ' ORDER BY n)
	FROM (SELECT n, sum(accepted) AS accepted, sum(refused) AS refused, sum(limited) AS limited FROM overten_auth.key_usage JOIN watched USING (key_id) GROUP BY n) s"),
	join(', ', ('t f t') x ($keys - 1), 'f t f'), 'of each kind');

$node->stop;
done_testing();
