--
-- credits: no org spends what it does not have, no request is paid for twice, and
-- the balance is the sum of the ledger
--
CREATE EXTENSION overten_auth;
\pset null '-'
SET client_min_messages = warning;

-- What a call returns, or the error with its detail.
CREATE FUNCTION pg_temp.try(call text, VARIADIC args text[] DEFAULT '{}') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
	detail text;
BEGIN
	EXECUTE format('SELECT (%s)::text', format(call, VARIADIC args)) INTO result;
	RETURN result;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN regexp_replace(concat_ws(' / ', SQLSTATE || ' ' || SQLERRM, nullif(detail, '')), 'org_\w{20}', 'org_...', 'g');
END
$$;
-- What the tables say, and whether they agree.
CREATE FUNCTION pg_temp.ledger(org text) RETURNS TABLE (entry int8, kind text, amount int8, balance int8, request_id text, detail text) LANGUAGE sql AS $$
	SELECT entry, kind, amount, balance, request_id, detail FROM overten_auth.credit_ledger WHERE org_id = org ORDER BY entry;
$$;
CREATE FUNCTION pg_temp.faults() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT subject || ': ' || regexp_replace(problem, 'org_\w{20}', 'org_...', 'g') FROM overten_check() WHERE subject LIKE 'overten_auth.credit%' OR subject = 'check of credits' ORDER BY 1;
$$;
SELECT org_id AS org FROM overten_create_org('Acme Docs') \gset
SELECT org_id AS other FROM overten_create_org('Other') \gset

-- Without credits.
SELECT * FROM overten_credit_balance(:'org');
SELECT pg_temp.try('overten_spend(%L, 1, ''r1'')', :'org');
SELECT pg_temp.try('overten_hold(%L, 1, ''r1'')', :'org');
SELECT pg_temp.try('overten_settle(%L, 0, ''r1'')', :'org');
SELECT overten_release(:'org', 'r1');
SELECT count(*) FROM overten_list_ledger(:'org');
SELECT count(*) FROM overten_auth.credits;

-- Granting and spending.
SELECT overten_grant(:'org', 100, 'welcome'), overten_grant(:'org', 50, request_id => 'payment 1');
SELECT overten_spend(:'org', 30, 'r1', 'summary'), overten_spend(:'org', 120, 'r2');
SELECT pg_temp.try('overten_spend(%L, 1, ''r3'')', :'org');
SELECT overten_grant(:'other', 5), overten_spend(:'other', 5, 'r1');
SELECT * FROM pg_temp.ledger(:'org');
SELECT * FROM overten_credit_balance(:'org');
SELECT action, detail, org_id = :'org' AS of_acme FROM overten_auth.audit_log WHERE action LIKE '%credit%' ORDER BY at;

-- A repetition gets the first answer, and another request none.
SELECT overten_grant(:'org', 50, 'another reason', 'payment 1'), overten_spend(:'org', 30, 'r1'), overten_spend(:'org', 120, 'r2', 'x');
SELECT pg_temp.try('overten_spend(%L, 31, ''r1'')', :'org');
SELECT pg_temp.try('overten_grant(%L, 51, NULL, ''payment 1'')', :'org');
SELECT pg_temp.try('overten_grant(%L, 30, NULL, ''r1'')', :'org');
SELECT pg_temp.try('overten_spend(%L, 50, ''payment 1'')', :'org');
-- Ids are compared byte for byte.
SELECT overten_grant(:'org', 10), overten_spend(:'org', 1, 'R1'), overten_spend(:'org', 1, 'r 1'), overten_spend(:'org', 1, 'r1 x');
SELECT * FROM overten_credit_balance(:'org');
SELECT * FROM pg_temp.faults();

-- Bad arguments.
SELECT call, pg_temp.try(call, :'org') AS result
FROM (VALUES ('overten_grant(%L, 0)'), ('overten_grant(%L, -1)'), ('overten_grant(%L, NULL)'), ('overten_grant(NULL, 1)'),
	('overten_grant(%L, 1, '''')'), ('overten_grant(%L, 1, repeat(''x'', 201))'), ('overten_grant(%L, 1, NULL, '''')'),
	('overten_spend(%L, 0, ''x'')'), ('overten_spend(%L, -1, ''x'')'), ('overten_spend(%L, ''-9223372036854775808'', ''x'')'),
	('overten_spend(%L, NULL, ''x'')'), ('overten_spend(NULL, 1, ''x'')'), ('overten_spend(%L, 1, NULL)'), ('overten_spend(%L, 1, '''')'),
	('overten_spend(%L, 1, '' x'')'), ('overten_spend(%L, 1, E''a\nb'')'), ('overten_spend(%L, 1, repeat(''x'', 256))'),
	('overten_spend(%L, 1, repeat(''x'', 100000000))'), ('overten_spend(%L, 1, ''x'', '''')'), ('overten_spend(%L, 1, ''x'', repeat(''x'', 501))'),
	('overten_spend(%L, 1, ''x'', repeat(''x'', 100000000))'),
	('overten_spend(''org_nobody'', 1, ''x'')'), ('overten_spend(repeat(''x'', 1000000), 1, ''x'')'), ('overten_grant(''org_nobody'', 1)'),
	('overten_hold(%L, 0, ''x'')'), ('overten_hold(%L, NULL, ''x'')'), ('overten_hold(%L, 1, NULL)'), ('overten_hold(%L, 1, ''x'', NULL)'),
	('overten_hold(%L, 1, ''x'', ''0'')'), ('overten_hold(%L, 1, ''x'', ''-1 day'')'), ('overten_hold(%L, 1, ''x'', ''8 days'')'),
	('overten_hold(''org_nobody'', 1, ''x'')'), ('overten_hold(NULL, 1, ''x'')'),
	('overten_settle(%L, -1, ''x'')'), ('overten_settle(%L, NULL, ''x'')'), ('overten_settle(%L, 1, '''')'), ('overten_settle(''org_nobody'', 1, ''x'')'),
	('overten_release(%L, NULL)'), ('overten_release(%L, '''')'), ('overten_release(''org_nobody'', ''x'')'), ('overten_release(NULL, ''x'')'),
	('overten_credit_balance(NULL)'), ('overten_credit_balance(''org_nobody'')'),
	('(SELECT count(*) FROM overten_list_ledger(NULL))'), ('(SELECT count(*) FROM overten_list_ledger(''org_nobody''))'),
	('(SELECT count(*) FROM overten_list_ledger(%L, 1, 0))'), ('(SELECT count(*) FROM overten_list_ledger(%L, 1, 1001))'), ('(SELECT count(*) FROM overten_list_ledger(%L, 1, NULL))')) v (call);

-- Numbers: as much as fits, and no more.
SELECT overten_grant(:'other', 9223372036854775807, 'all there is');
SELECT pg_temp.try('overten_grant(%L, 1)', :'other'), pg_temp.try('overten_grant(%L, 9223372036854775807)', :'other');
SELECT overten_hold(:'other', 9223372036854775807, 'h') > now() AS held;
SELECT pg_temp.try('overten_spend(%L, 9223372036854775807, ''all'')', :'other');
SELECT overten_settle(:'other', 9223372036854775806, 'h'), overten_grant(:'other', 9223372036854775806);
SELECT overten_spend(:'other', 9223372036854775807, 'all');
SELECT * FROM pg_temp.ledger(:'other');
SELECT * FROM pg_temp.faults();

-- Holds.
SELECT org_id AS org FROM overten_create_org('Holder') \gset
SELECT overten_grant(:'org', 100);
SELECT overten_hold(:'org', 60, 'a', '1 hour') AS ends \gset
SELECT :'ends'::timestamptz BETWEEN now() + interval '59 minutes' AND now() + interval '1 hour' AS in_an_hour,
	overten_hold(:'org', 60, 'a', '1 day') = :'ends' AS repeated;
SELECT pg_temp.try('overten_hold(%L, 61, ''a'')', :'org');
SELECT * FROM overten_credit_balance(:'org');
SELECT pg_temp.try('overten_spend(%L, 41, ''s'')', :'org');
SELECT pg_temp.try('overten_hold(%L, 41, ''b'')', :'org');
SELECT overten_hold(:'org', 40, 'b') IS NOT NULL AS held, pg_temp.try('overten_spend(%L, 1, ''s'')', :'org');
SELECT pg_temp.try('overten_settle(%L, 61, ''a'')', :'org');
SELECT overten_settle(:'org', 45, 'a', '900 tokens');
SELECT overten_settle(:'org', 45, 'a'), pg_temp.try('overten_settle(%L, 44, ''a'')', :'org'), pg_temp.try('overten_hold(%L, 60, ''a'')', :'org');
SELECT pg_temp.try('overten_spend(%L, 45, ''a'')', :'org');
SELECT * FROM overten_credit_balance(:'org');
SELECT overten_release(:'org', 'b'), overten_release(:'org', 'b'), overten_release(:'org', 'a');
SELECT pg_temp.try('overten_settle(%L, 1, ''b'')', :'org');
-- A request that was released can be held again, and be settled for nothing.
SELECT overten_hold(:'org', 55, 'b') IS NOT NULL AS held, overten_settle(:'org', 0, 'b'), overten_settle(:'org', 0, 'b');
-- A request that is spent is not held as well.
SELECT overten_spend(:'org', 5, 'direct'), pg_temp.try('overten_hold(%L, 5, ''direct'')', :'org'), pg_temp.try('overten_settle(%L, 5, ''direct'')', :'org');
SELECT * FROM pg_temp.ledger(:'org');
SELECT count(*) FROM overten_auth.credit_holds WHERE org_id = :'org';
SELECT * FROM pg_temp.faults();

-- A hold ends by the clock: nobody has to notice it first.
SELECT overten_hold(:'org', 30, 'c') IS NOT NULL AS held, overten_hold(:'org', 20, 'd') IS NOT NULL AS held;
UPDATE overten_auth.credit_holds SET expires_at = clock_timestamp() WHERE request_id = 'c';
SELECT * FROM overten_credit_balance(:'org');
SELECT held FROM overten_auth.credits WHERE org_id = :'org';
SELECT pg_temp.try('overten_settle(%L, 30, ''c'')', :'org'), overten_release(:'org', 'c');
-- Its credits are there when they are needed, and those of the other hold are not.
BEGIN;
SELECT pg_temp.try('overten_spend(%L, 31, ''e'')', :'org'), overten_spend(:'org', 30, 'e');
ROLLBACK;
BEGIN;
SELECT pg_temp.try('overten_hold(%L, 31, ''e'')', :'org'), overten_hold(:'org', 30, 'e') IS NOT NULL AS held;
ROLLBACK;
-- The same request begins anew, with another amount too.
SELECT overten_hold(:'org', 25, 'c') IS NOT NULL AS held;
SELECT request_id, amount FROM overten_auth.credit_holds WHERE org_id = :'org' ORDER BY 1;
SELECT overten_settle(:'org', 25, 'c'), overten_release(:'org', 'd');
SELECT * FROM overten_credit_balance(:'org');
SELECT * FROM pg_temp.faults();

-- All of it belongs to the transaction.
BEGIN;
SELECT overten_spend(:'org', 5, 'kept');
SAVEPOINT s;
SELECT overten_spend(:'org', 5, 'lost'), overten_grant(:'org', 1000, NULL, 'lost too'), overten_hold(:'org', 5, 'lost hold') IS NOT NULL AS held;
ROLLBACK TO s;
SELECT overten_spend(:'org', 6, 'lost');
COMMIT;
BEGIN;
SELECT overten_spend(:'org', 14, 'rolled back');
ROLLBACK;
SELECT entry, amount, balance, request_id FROM pg_temp.ledger(:'org') ORDER BY entry DESC LIMIT 2;
SELECT overten_spend(:'org', 14, 'rolled back');
SELECT * FROM overten_credit_balance(:'org');
BEGIN READ ONLY;
SELECT * FROM overten_credit_balance(:'org');
SELECT count(*) FROM overten_list_ledger(:'org');
SELECT call, pg_temp.try(call, :'org')
FROM (VALUES ('overten_grant(%L, 1)'), ('overten_spend(%L, 1, ''r1'')'), ('overten_hold(%L, 1, ''x'')'), ('overten_settle(%L, 25, ''c'')'), ('overten_release(%L, ''x'')')) v (call);
ROLLBACK;

-- The ledger in pages.
SELECT entry, kind FROM overten_list_ledger(:'org', "limit" => 2);
SELECT entry, kind FROM overten_list_ledger(:'org', 6, 3);
SELECT count(*) FROM overten_list_ledger(:'org', 1);
SELECT count(*) FROM overten_list_ledger(:'org', -9223372036854775808);

-- Nobody changes the ledger.
UPDATE overten_auth.credit_ledger SET amount = 1;
DELETE FROM overten_auth.credit_ledger;
TRUNCATE overten_auth.credit_ledger;
SET session_replication_role = replica;
TRUNCATE overten_auth.credit_ledger;
RESET session_replication_role;

-- What was written past the functions is found.
SELECT * FROM pg_temp.faults();
BEGIN;
UPDATE overten_auth.credits SET balance = balance + 1 WHERE org_id = :'org';
SELECT * FROM pg_temp.faults();
ROLLBACK;
BEGIN;
INSERT INTO overten_auth.credit_ledger (org_id, entry, kind, amount, balance) VALUES (:'org', 1000, 'grant', 5, 5);
SELECT * FROM pg_temp.faults();
ROLLBACK;
BEGIN;
ALTER TABLE overten_auth.credit_ledger DISABLE TRIGGER refuse_change;
DELETE FROM overten_auth.credit_ledger WHERE org_id = :'org' AND amount = 0;
SELECT * FROM pg_temp.faults();
ROLLBACK;
BEGIN;
SELECT overten_grant(:'org', 5);
DELETE FROM overten_auth.credits WHERE org_id = :'org';
SELECT * FROM pg_temp.faults();
ROLLBACK;
BEGIN;
SELECT overten_grant(:'org', 5), overten_hold(:'org', 5, 'x') IS NOT NULL AS held;
SELECT * FROM pg_temp.faults();
DELETE FROM overten_auth.credit_holds;
SELECT * FROM pg_temp.faults();
ROLLBACK;

-- Suspended orgs, and closed ones, pay for what they have begun; a closed org gets
-- no more, but is told of what it got.
SELECT org_id AS org FROM overten_create_org('Leaving') \gset
SELECT overten_grant(:'org', 100, 'Ada''s birthday', 'payment of Ada'), overten_hold(:'org', 10, 'hold of Ada') IS NOT NULL AS held;
SELECT overten_set_api_access(:'org', false);
SELECT overten_spend(:'org', 1, 'spending of Ada', 'Ada again'), overten_grant(:'org', 1);
SELECT overten_close_org(:'org');
SELECT overten_settle(:'org', 9, 'hold of Ada'), overten_spend(:'org', 1, 'x'), overten_hold(:'org', 20, 'left of Ada') IS NOT NULL AS held;
SELECT pg_temp.try('overten_grant(%L, 1)', :'org'), overten_grant(:'org', 100, NULL, 'payment of Ada');
SELECT * FROM overten_credit_balance(:'org');
-- Erased, an org has nothing; the ledger keeps the amounts alone.
BEGIN;
SELECT overten_erase_org(:'org');
ROLLBACK;
SELECT * FROM overten_credit_balance(:'org');
SELECT overten_erase_org(:'org');
SELECT * FROM pg_temp.ledger(:'org');
SELECT (SELECT count(*) FROM overten_auth.credits WHERE org_id = :'org') AS credits, (SELECT count(*) FROM overten_auth.credit_holds WHERE org_id = :'org') AS holds;
SELECT call, pg_temp.try(call, :'org')
FROM (VALUES ('overten_grant(%L, 1)'), ('overten_spend(%L, 1, ''x'')'), ('overten_hold(%L, 1, ''x'')'), ('overten_settle(%L, 1, ''x'')'), ('overten_release(%L, ''x'')'),
	('overten_credit_balance(%L)'), ('(SELECT count(*) FROM overten_list_ledger(%L))')) v (call);
DELETE FROM overten_auth.credit_ledger;
SELECT * FROM pg_temp.faults();
-- An org without credits, and one without any left.
SELECT overten_erase_org(:'other');
SELECT overten_erase_org(org_id) FROM overten_create_org('Never had any');
SELECT entry, kind, amount, balance FROM pg_temp.ledger(:'other');
SELECT * FROM pg_temp.faults();

-- A role needs nothing but EXECUTE.
CREATE ROLE overten_spender;
SELECT org_id AS org FROM overten_create_org('Spender') \gset
SELECT overten_grant(:'org', 10);
SET ROLE overten_spender;
SELECT call, pg_temp.try(call, :'org')
FROM (VALUES ('overten_grant(%L, 1)'), ('overten_spend(%L, 1, ''x'')'), ('overten_hold(%L, 1, ''x'')'), ('overten_settle(%L, 1, ''x'')'), ('overten_release(%L, ''x'')'),
	('overten_credit_balance(%L)'), ('(SELECT count(*) FROM overten_list_ledger(%L))')) v (call);
RESET ROLE;
GRANT EXECUTE ON FUNCTION overten_spend, overten_hold, overten_settle, overten_release, overten_credit_balance, overten_list_ledger TO overten_spender;
SET ROLE overten_spender;
SELECT overten_spend(:'org', 1, 'x'), overten_hold(:'org', 2, 'y') IS NOT NULL AS held, overten_settle(:'org', 1, 'y'), overten_release(:'org', 'y');
SELECT entry, kind FROM overten_list_ledger(:'org');
SELECT * FROM overten_credit_balance(:'org');
SELECT count(*) FROM overten_auth.credit_ledger;
RESET ROLE;
REVOKE ALL ON FUNCTION overten_spend, overten_hold, overten_settle, overten_release, overten_credit_balance, overten_list_ledger FROM overten_spender;
DROP ROLE overten_spender;

DROP EXTENSION overten_auth;
