
# At random: sessions that spend, hold, settle and grant credits, repeat requests,
# roll back and prepare transactions, while the server is killed and its standby
# promoted.  Each call writes a row of the application's own in the same
# transaction, so that afterwards every piece of work is paid for once, and nothing
# else is.  pg_regress has no two sessions at once, and no crash.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use UsageTest;

my $node = create_node('spending', <<'EOC', allows_streaming => 1);
max_prepared_transactions = 20
restart_after_crash = on
EOC
my $seconds = $ENV{OVERTEN_SPEND_SECONDS} // 3;
my $orgs = 2;
ask($node, <<"EOQ");
CREATE TABLE spender AS SELECT n, org_id FROM generate_series(1, $orgs) n, overten_create_org('Spender ' || n);
SELECT overten_grant(org_id, 500) FROM spender;
CREATE TABLE work (org_id text, request_id text, amount bigint, answer bigint, PRIMARY KEY (org_id, request_id));
-- What has happened, rolled back or not, at least once.
DO \$\$
BEGIN
	EXECUTE (SELECT string_agg('CREATE SEQUENCE seen_' || what, ';') FROM unnest('{paid,repeated,short,ended,released}'::text[]) what);
END
\$\$;
CREATE FUNCTION act(n int, request int, how int) RETURNS void LANGUAGE plpgsql AS \$\$
DECLARE
	org text := (SELECT org_id FROM spender s WHERE s.n = act.n);
	cost bigint := 1 + request % 40;
	id text;
	answer bigint;
	r record;
BEGIN
	BEGIN
		IF how <= 4 THEN
			id := 'spend ' || request;
			cost := - cost;
			answer := overten_spend(org, - cost, id);
		ELSIF how = 5 THEN
			id := 'payment ' || request;
			answer := overten_grant(org, cost, 'paid', id);
		ELSIF how <= 7 THEN
			PERFORM overten_hold(org, cost, 'hold ' || request, CASE request % 2 WHEN 0 THEN interval '1 second' ELSE '1 minute' END);
		ELSIF how <= 9 THEN
			id := 'hold ' || request;
			cost := - (cost / 2);
			answer := overten_settle(org, - cost, id);
		ELSIF overten_release(org, 'hold ' || request) THEN
			PERFORM nextval('seen_released');
		END IF;
	EXCEPTION
		WHEN SQLSTATE '53OA2' THEN
			PERFORM nextval('seen_short');
			RETURN;
		WHEN object_not_in_prerequisite_state OR duplicate_object THEN
			PERFORM nextval('seen_ended');
			RETURN;
	END;
	SELECT * INTO r FROM overten_credit_balance(org);
	IF r.held < 0 OR r.available < 0 OR answer < 0 THEN
		RAISE EXCEPTION 'balance %, held %, answer %', r.balance, r.held, answer;
	END IF;
	IF id IS NULL THEN
		RETURN;
	END IF;
	INSERT INTO work VALUES (org, id, cost, answer) ON CONFLICT DO NOTHING;
	IF FOUND THEN
		PERFORM nextval('seen_paid');
		RETURN;
	END IF;
	SELECT * INTO r FROM work w WHERE w.org_id = org AND w.request_id = id;
	IF (r.amount, r.answer) IS DISTINCT FROM (cost, answer) THEN
		RAISE EXCEPTION '%: % and then %', id, r.answer, answer;
	END IF;
	PERFORM nextval('seen_repeated');
END
\$\$;
EOQ

my $script = <<"EOS";
\\set level random(1, 4)
\\set finish random(1, 10)
\\set n random(1, $orgs)
\\set request random(1, 1000)
\\set how random(1, 10)
\\set second random(1, 1000)
\\set then random(1, 10)
\\if :level = 1
BEGIN ISOLATION LEVEL REPEATABLE READ;
\\elif :level = 2
BEGIN ISOLATION LEVEL SERIALIZABLE;
\\else
BEGIN;
\\endif
SELECT act(:n, :request, :how);
SAVEPOINT s;
SELECT act(:n, :second, :then);
\\if :then = 1
ROLLBACK TO s;
\\endif
\\if :finish <= 6
COMMIT;
\\elif :finish = 7
ROLLBACK;
\\else
PREPARE TRANSACTION 'client :client_id';
\\if :finish = 8
ROLLBACK PREPARED 'client :client_id';
\\else
COMMIT PREPARED 'client :client_id';
\\endif
\\endif
EOS

# Statements that find what is wrong.
my %wrong = (
	'the tables disagree' => 'SELECT subject, problem FROM overten_auth.check_credits()',
	'a balance is not that of its row' => <<'EOQ',
SELECT * FROM (SELECT l.*, sum(amount) OVER w AS sum, row_number() OVER w AS number
	FROM overten_auth.credit_ledger l WINDOW w AS (PARTITION BY org_id ORDER BY entry)) l
WHERE balance <> sum OR entry <> number OR balance < 0
EOQ
	'a request is in the ledger twice' => <<'EOQ',
SELECT org_id, request_id FROM overten_auth.credit_ledger
WHERE request_id IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1
EOQ
	'work is not paid for, or something else is' => <<'EOQ',
SELECT * FROM work w FULL JOIN (SELECT * FROM overten_auth.credit_ledger WHERE request_id IS NOT NULL) l USING (org_id, request_id)
WHERE (w.amount, w.answer) IS DISTINCT FROM (l.amount, l.balance)
EOQ
);

sub check_books
{
	my ($when) = @_;

	# A transaction that was prepared before a crash is still there.
	my $turn = 0;
	ask($node, (++$turn % 2 ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$_'")
	  foreach split /\n/, ask($node, 'SELECT gid FROM pg_prepared_xacts ORDER BY 1');
	is(ask($node, "SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off; $wrong{$_}"),
		'', "$when: not that $_")
	  foreach sort keys %wrong;
	return;
}

# Spend until the server is stopped, or for some seconds.
sub spend_until
{
	my ($when, $stop) = @_;
	my @loads = (
		start_pgbench($node, 'spend', $script, '-T', $stop ? 60 : $seconds, '-c', 6, '--max-tries', 10000),
		start_pgbench($node, 'look', 'SELECT 1 / (count(*) = 0)::int FROM overten_auth.check_credits();',
			'-T', $stop ? 60 : $seconds, '-R', 20));
	my $paid = ask($node, 'SELECT last_value FROM seen_paid');

	if ($stop)
	{
		$node->poll_query_until('postgres', "SELECT last_value > $paid + 200 FROM seen_paid") or die 'nothing is spent';
		$stop->();
	}
	foreach my $load (@loads)
	{
		$load->{run}->finish;
		my @errors = grep { !/server closed the connection|connection to server|terminating connection|could not serialize|client \d+ aborted|Run was aborted|DETAIL|HINT|^\s|WARNING/ }
		  grep { /ERROR|FATAL|PANIC|aborted/ } split /\n/, $load->{err};
		is(join("\n", @errors), '', "$when: $load->{name}");
		like($load->{out}, qr/^number of failed transactions: 0 /m, "$when: $load->{name}: every transaction is done in the end") unless $stop;
	}
	check_books($when);
	return;
}

# The process of a session that is in the middle of a call.
sub victim
{
	my $pid;

	wait_until('somebody spends', sub {
		$pid = ask($node, "SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT act%' AND state = 'active' LIMIT 1");
	});
	return $pid;
}

spend_until('a session is killed', sub {
	my $started = 'SELECT pg_postmaster_start_time(), (SELECT max(backend_start) FROM pg_stat_activity WHERE backend_type = \'checkpointer\')';
	my $before = ask($node, $started);

	kill 'KILL', victim();
	wait_until('the server starts anew', sub {
		my ($status, $now) = $node->psql('postgres', $started);
		return $status == 0 && $now ne $before;
	});
});

# Kill the server, and wait until all of its processes have gone.
sub kill_server
{
	my @pids = split /\n/, ask($node, 'SELECT pid FROM pg_stat_activity');

	$node->kill9;
	wait_until('the processes are gone', sub { !grep { kill 0, $_ } @pids });
	return;
}

spend_until('the server is killed', sub {
	kill_server();
	$node->start;
});

# What the standby had not received is lost, an application's work with its payment.
$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('spending_standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
spend_until('the standby is promoted', sub {
	kill_server();
	$standby->promote;
	$node = $standby;
});

spend_until('nothing happens');

is(ask($node, "SELECT string_agg(sequencename::text, ' ' ORDER BY 1) FROM pg_sequences WHERE sequencename LIKE 'seen%' AND coalesce(last_value, 0) < 20"),
	'', 'work was paid for, repeated, refused, released and late: '
	  . ask($node, "SELECT string_agg(substr(sequencename, 6) || ' ' || last_value, ', ' ORDER BY 1) FROM pg_sequences WHERE sequencename LIKE 'seen%'"));

$node->stop;
done_testing();
