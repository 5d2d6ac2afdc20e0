
# Every C function of the extension is cancelled, and runs into
# statement_timeout, at every table that it has to wait for; nothing of what it
# has begun is left.  The functions are taken from the catalog, so that none is
# forgotten; those that wait for nothing are named here, with the reason.
#
# What happens at random moments is in test/t/470_interrupted.pl.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin, "$FindBin::RealBin/../t";
use FaultTest;
use IPC::Run;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use WholeSurface;

my $node = create_node('interrupts', surface_settings('postgres') . "overten_auth.key_features = 'details, rotation'\n");

# So that there is time to wait for a fetch.
my $command = ask($node, 'SHOW overten_auth.signing_keys_command');
$node->append_conf('postgresql.conf', "overten_auth.signing_keys_command = 'sleep 0.5; $command'");
$node->reload;
my @tables = split /\n/, ask($node, q{SELECT relname FROM pg_class
	WHERE relnamespace = 'overten_auth'::regnamespace AND relkind = 'r' ORDER BY 1});
my $document = surface_document('key-1');
ask($node, "SELECT overten_load_signing_keys('$document')");
my $org = create_org($node, 'Interrupted');
my ($secret, $key) = mint($node, $org);
my ($hex, $token) = (ask($node, "SELECT encode(sha256('$secret'), 'hex')"), surface_token('ada'));
ask($node, "SELECT overten_set_api_access('$org', true), overten_add_member('$org', 'ada'), overten_add_member('$org', 'zoe'),
	overten_rotate_webhook_secret('$org', '1 day'), overten_grant('$org', 100), overten_hold('$org', 10, 'held', '1 day'),
	overten_set_limit('org', '$org', 'kept', 1000000, '1 hour')");
my ($invitation) = split /\n/, ask($node, "SELECT invitation_id FROM overten_invite('$org')");
my $code = ask($node, "SELECT code FROM overten_invite('" . create_org($node, 'Inviting') . "')");
my $cluster = ask($node, 'SELECT system_identifier FROM pg_control_system()');
my $by_key = qq({"authorization": "Bearer $secret"});
my $by_token = qq({"authorization": "Bearer $token", "x-overten-org-id": "$org", "x-overten-key-id": "$key"});
my $request = sub { "SET request.headers = '$_[0]'; SELECT $_[1]" };

# A call of each that does something.
my %calls = (
	'overten_mint_key(text,text,timestamp with time zone,text[],cidr[],text)' => "SELECT overten_mint_key('$org')",
	'overten_verify_key(text)' => "SELECT overten_verify_key('$secret')",
	'overten_admit(text,bigint,text[],inet)' => "SELECT overten_admit('$secret')",
	'overten_admission(text,bigint,text[],inet)' => "SELECT overten_admission('$secret')",
	'overten_charge(text,bigint)' => "SELECT overten_charge('$key', 1)",
	'overten_set_limit(text,text,text,bigint,interval,bigint,text,boolean,integer)' =>
	  "SELECT overten_set_limit('key', '$key', 'new', 1, '1 hour')",
	'overten_drop_limit(text,text,text)' => "SELECT overten_drop_limit('org', '$org', 'kept')",
	'overten_list_limits(text)' => "SELECT overten_list_limits('$org')",
	'overten_limit_status(text)' => "SELECT overten_limit_status('$org')",
	'overten_authorize_request(text,json)' =>
	  "SELECT 1 / (status = 200)::int FROM overten_authorize_request('', '$by_key')",
	'overten_verify_key_digest(bytea)' => "SELECT overten_verify_key_digest('\\x$hex')",
	'overten_list_keys(text)' => "SELECT overten_list_keys('$org')",
	'overten_find_keys(text,text,timestamp with time zone,integer,text,text)' => "SELECT overten_find_keys('$org')",
	'overten_purge_keys(text,timestamp with time zone)' => "SELECT overten_purge_keys('$org', now())",
	'overten_describe_key(text,text)' => "SELECT overten_describe_key('$org', '$key')",
	'overten_set_expiry(text,text,timestamp with time zone)' => "SELECT overten_set_expiry('$org', '$key', '2101-01-01')",
	'overten_disable_key(text,text,text)' => "SELECT overten_disable_key('$org', '$key', 'x')",
	'overten_enable_key(text,text)' => "SELECT overten_enable_key('$org', '$key')",
	'overten_set_scopes(text,text,text[])' => "SELECT overten_set_scopes('$org', '$key', '{}')",
	'overten_set_allowed_addresses(text,text,cidr[])' =>
	  "SELECT overten_set_allowed_addresses('$org', '$key', '{192.0.2.1}')",
	'overten_key_restrictions(text,text)' => "SELECT overten_key_restrictions('$org')",
	'overten_check_addresses(text,text,cidr[])' => "SELECT overten_check_addresses('$org', '$key', '{192.0.2.1}')",
	'overten_revoke_key(text,text,text)' => "SELECT overten_revoke_key('$org', '$key', 'x')",
	'overten_rotate_key(text,text,interval)' => "SELECT overten_rotate_key('$org', '$key')",
	'overten_rotation_progress(text,text)' => "SELECT overten_rotation_progress('$org', '$key')",
	'overten_rename_key(text,text,text)' => "SELECT overten_rename_key('$org', '$key', 'x')",
	'overten_set_key_details(text,text,text,jsonb)' => "SELECT overten_set_key_details('$org', '$key', 'x', '{}')",
	'overten_key_details(text,text)' => "SELECT overten_key_details('$org', '$key')",
	'overten_revoke_keys_of(text,text)' => "SELECT overten_revoke_keys_of('ada')",
	'overten_revoke_leaked(text,text,boolean)' => "SELECT overten_revoke_leaked('$secret', rotate_webhook_secret => true)",
	'overten_revoke_all(text,text,boolean)' => "SELECT overten_revoke_all('$org', rotate_webhook_secret => true)",
	'overten_import_key(text,text,bytea,text,timestamp with time zone,timestamp with time zone,text[],cidr[])' =>
	  "SELECT overten_import_key('$org', 'x', sha256('x'), 'sk_live_0000')",
	'overten_import_keys(text[],text[],bytea[],text[],timestamp with time zone[],timestamp with time zone[],text[],text[])' =>
	  "SELECT overten_import_keys('{$org}', '{x}', ARRAY[sha256('x')], '{sk_live_0000}')",
	'overten_create_org(text,text)' => "SELECT overten_create_org('Made')",
	'overten_set_tier(text,text)' => "SELECT overten_set_tier('$org', 'free')",
	'overten_set_api_access(text,boolean)' => "SELECT overten_set_api_access('$org', false)",
	'overten_add_member(text,text)' => "SELECT overten_add_member('$org', 'eve')",
	'overten_remove_member(text,text)' => "SELECT overten_remove_member('$org', 'ada')",
	'overten_rename_org(text,text)' => "SELECT overten_rename_org('$org', 'Renamed')",
	'overten_close_org(text,text)' => "SELECT overten_close_org('$org')",
	'overten_erase_org(text)' => "SELECT overten_close_org('$org'); SELECT overten_erase_org('$org')",
	'overten_erase_person(text)' => "SELECT overten_erase_person('zoe')",
	'overten_all_orgs(text,boolean,boolean,text,text,integer)' => "SELECT overten_all_orgs('free', false, false, 'o')",
	'overten_list_members(text)' => "SELECT overten_list_members('$org')",
	'overten_invite(text,text,interval)' => "SELECT overten_invite('$org', 'Eve')",
	'overten_list_invitations(text)' => "SELECT overten_list_invitations('$org')",
	'overten_withdraw_invitation(text,text)' => "SELECT overten_withdraw_invitation('$org', invitation_id) FROM overten_invite('$org')",
	'overten_accept_invitation(text,text)' => "SELECT overten_accept_invitation(code, 'eve') FROM overten_invite('$org')",
	'overten_org_anomalies(text)' => "SELECT overten_org_anomalies('$org')",
	'overten_all_anomalies()' => 'SELECT overten_all_anomalies()',
	'overten_grant(text,bigint,text,text)' => "SELECT overten_grant('$org', 1)",
	'overten_spend(text,bigint,text,text)' => "SELECT overten_spend('$org', 1, 'request')",
	'overten_hold(text,bigint,text,interval)' => "SELECT overten_hold('$org', 1, 'work')",
	'overten_settle(text,bigint,text,text)' => "SELECT overten_settle('$org', 1, 'held')",
	'overten_release(text,text)' => "SELECT overten_release('$org', 'held')",
	'overten_credit_balance(text)' => "SELECT overten_credit_balance('$org')",
	'overten_list_ledger(text,bigint,integer)' => "SELECT overten_list_ledger('$org')",
	'overten_list_orgs(text)' => "SELECT overten_list_orgs('ada')",
	'overten_signup(text,text,text,text,text)' => "SELECT overten_signup('bob', 'Signed up')",
	'overten_verify_firebase_jwt(text)' => "SELECT overten_verify_firebase_jwt('$token')",
	'overten_load_signing_keys(json)' => "SELECT overten_load_signing_keys('$document')",
	'overten_refresh_signing_keys()' => 'SELECT overten_refresh_signing_keys()',
	'overten_flush_usage()' => 'SELECT overten_flush_usage()',
	'overten_status()' => 'SELECT overten_status()',
	'overten_authenticate(text)' => "SELECT overten_authenticate('$secret')",
	'overten_key_usage(text,text,timestamp with time zone,timestamp with time zone)' =>
	  "SELECT overten_key_usage('$org', '$key')",
	'overten_org_usage(text,timestamp with time zone,timestamp with time zone)' =>
	  "SELECT overten_org_usage('$org', now() - interval '1 day', now())",
	'overten_key_anomalies(text,text)' => "SELECT overten_key_anomalies('$org', '$key')",
	'overten_rotate_webhook_secret(text,interval)' => "SELECT overten_rotate_webhook_secret('$org')",
	'overten_sign_webhook(text,text,bigint,text)' => "SELECT overten_sign_webhook('$org', 'msg', 1, 'x'::text)",
	'overten_sign_webhook(text,text,bigint,bytea)' => "SELECT overten_sign_webhook('$org', 'msg', 1, 'x'::bytea)",
	'overten_reseal(integer)' => 'SELECT overten_reseal()',
	'overten_auth.master_key_ids()' => 'SELECT overten_auth.master_key_ids()',
	'overten_auth.run_checks()' => 'SELECT overten_auth.run_checks()',
	'overten_handle_request(text,text,json,text)' =>
	  "SELECT 1 / (status = 200)::int FROM overten_handle_request('GET', '/api/v1/verify', '$by_key', NULL)",
	'overten_handle_request(text,text,json,bytea)' =>
	  "SELECT 1 / (status = 200)::int FROM overten_handle_request('GET', '/api/v1/verify', '$by_key', NULL::bytea)",
	'overten_api.signup(json)' => $request->($by_token, q(overten_api.signup('{"org_name": "Signed up"}'))),
	'overten_api.create_api_key(json)' => $request->($by_token, q(overten_api.create_api_key('{"name": "x"}'))),
	'overten_api.list_api_keys(text)' => $request->($by_token, "overten_api.list_api_keys('$org')"),
	'overten_api.revoke_api_key(json)' => $request->($by_token, 'overten_api.revoke_api_key(NULL)'),
	'overten_api.show_api_key(text,text)' => $request->($by_token, "overten_api.show_api_key('$org', '$key')"),
	'overten_api.change_api_key(json)' => $request->($by_token, q(overten_api.change_api_key('{"name": "x"}'))),
	'overten_api.rotate_api_key(json)' => $request->($by_token, q(overten_api.rotate_api_key('{}'))),
	'overten_api.key_rotation(text,text)' => $request->($by_token, "overten_api.key_rotation('$org', '$key')"),
	'overten_api.key_usage(text,text,text,text)' => $request->($by_token, "overten_api.key_usage('$org', '$key')"),
	'overten_api.features()' => $request->($by_token, 'overten_api.features()'),
	'overten_api.list_organizations()' => $request->($by_token, 'overten_api.list_organizations()'),
	'overten_api.rename_organization(json)' => $request->($by_token, q(overten_api.rename_organization('{"name": "Renamed"}'))),
	'overten_api.close_organization(json)' => $request->($by_token, q(overten_api.close_organization('{}'))),
	'overten_api.list_members(text)' => $request->($by_token, "overten_api.list_members('$org')"),
	'overten_api.remove_member(json)' => $request->($by_token, q(overten_api.remove_member('{"item_id": "zoe"}'))),
	'overten_api.list_invitations(text)' => $request->($by_token, "overten_api.list_invitations('$org')"),
	'overten_api.create_invitation(json)' => $request->($by_token, q(overten_api.create_invitation('{}'))),
	'overten_api.withdraw_invitation(json)' => $request->($by_token, qq(overten_api.withdraw_invitation('{"item_id": "$invitation"}'))),
	'overten_api.accept_invitation(json)' => $request->($by_token, qq(overten_api.accept_invitation('{"code": "$code"}'))),
	'overten_api.audit_log(text)' => $request->($by_token, "overten_api.audit_log('$org')"),
	'overten_api.organization_limits(text)' => $request->($by_token, "overten_api.organization_limits('$org')"),
	'overten_api.organization_credits(text)' => $request->($by_token, "overten_api.organization_credits('$org')"),
	'overten_api.organization_usage(text)' => $request->($by_token, "overten_api.organization_usage('$org')"),
	'overten_api.rotate_webhook_secret(json)' => $request->($by_token, q(overten_api.rotate_webhook_secret('{}'))),
	'overten_api.authorize()' => $request->($by_key, 'overten_api.authorize()'),
	'overten_api.authenticate_request()' => $request->($by_key, 'overten_api.authenticate_request()'),
	'overten_api.verify()' => $request->($by_key, 'overten_api.verify()'));

# These look at memory alone, for a microsecond or so, and no interrupt is taken
# within them.  They are called over and over until one comes.
my %brief = (
	'overten_key_checksum_ok(text)' => "overten_key_checksum_ok('sk_live_' || i)",
	'overten_auth.key_prefixes()' => '(SELECT count(p) FROM (SELECT overten_auth.key_prefixes() p OFFSET i * 0) x)',
	'overten_has_scope(text)' => "overten_has_scope('x')",
	'overten_slot(text)' => "overten_slot('org_' || i)",
	'overten_slot(bytea)' => 'overten_slot(sha256(int8send(i)))',
	'overten_current_org()' => 'overten_current_org()',
	'overten_current_key()' => 'overten_current_key()',
	'overten_auth.stat()' => 'overten_auth.stat()');

# It commits, so it cannot be in a transaction that is rolled back.
my $procedure = 'overten_auth.add_uses(bigint,uuid,bigint,text[],timestamp with time zone[],inet[],bigint[],bigint[],bigint[],'
  . 'timestamp with time zone[],timestamp with time zone[],timestamp with time zone[])';
my $call = "CALL overten_auth.add_uses($cluster, gen_random_uuid(), 1, ARRAY['$key'], ARRAY[date_trunc('hour', now(), 'UTC')],
	ARRAY[NULL::inet], '{1}', '{0}', '{0}', ARRAY[now()], ARRAY[now()], ARRAY[now()])";

# Triggers that note something for the commit, or refuse, and can only be fired:
# what has to wait is the statement that fires them.
my @triggers = ('overten_auth.invalidate_caches()', 'overten_auth.refuse_change()');

# What only the extension's scripts call reads catalogs, and changes them in the
# transaction of the script.
my @scripts = ('overten_auth.finish_script(text[])', 'overten_auth.require_safe_owners()');

is( ask($node, q{SELECT string_agg(oid::regprocedure::text, E'\n' ORDER BY oid::regprocedure::text) FROM pg_proc
	JOIN pg_depend ON classid = 'pg_proc'::regclass AND objid = pg_proc.oid AND deptype = 'e'
	WHERE refobjid = (SELECT oid FROM pg_extension WHERE extname = 'overten_auth')
	AND prolang = (SELECT oid FROM pg_language WHERE lanname = 'c')}),
	join("\n", sort keys %calls, keys %brief, $procedure, @triggers, @scripts), 'every C function of the extension is here');

my $locker = $node->background_psql('postgres');
my $watcher = $node->background_psql('postgres');
$_->set_query_timer_restart foreach $locker, $watcher;

# All that a function could have changed; a fetch goes on without who asked for
# it, and moves the end of keys.
my $state = join ' || ', map { "(SELECT coalesce(md5(string_agg(t::text, ' ' ORDER BY t::text)), '') FROM $_ t)" }
  map { $_ eq 'signing_keys' ? '(SELECT kid, public_key FROM overten_auth.signing_keys)' : "overten_auth.$_" }
  grep { !/^(key_usage|key_last_used|usage_batches)$/ } @tables;
my $before = ask($node, "SELECT $state");

# Start statements in a session of its own: a transaction that is to be rolled back,
# unless they are said to be none.
sub start_victim
{
	my ($sql, $alone) = @_;
	my %victim = (out => '', err => '');

	local %ENV = $node->_get_env();
	local $ENV{PGAPPNAME} = 'victim';
	$victim{run} = IPC::Run::start(
		[ 'psql', '-XAtq', '-v', 'VERBOSITY=sqlstate', '-v', 'ON_ERROR_STOP=1',
			map({ ('-c', $_) } $alone ? $sql : ('BEGIN', $sql, 'ROLLBACK')), 'postgres' ],
		'<', \undef, '>', \$victim{out}, '2>', \$victim{err});
	return \%victim;
}

# What it waits for: a table, or the worker.  Nothing, if it has ended.
sub awaited
{
	my ($victim) = @_;

	for (;;)
	{
		my $waits = ask($watcher, q{SELECT coalesce(
				(SELECT relation::regclass::text FROM pg_locks l WHERE l.pid = a.pid AND NOT granted
					AND relation IN (SELECT oid FROM pg_class WHERE relnamespace = 'overten_auth'::regnamespace)),
				CASE WHEN wait_event_type = 'Extension' THEN 'worker' END)
			FROM pg_stat_activity a WHERE application_name = 'victim'});

		return $waits if $waits ne '';
		eval { $victim->{run}->pump_nb };
		return '' unless $victim->{run}->pumpable;
		usleep(5_000);
	}
}

# How it ended: '' if well, or a SQLSTATE.
sub outcome
{
	my ($victim) = @_;

	return '' if $victim->{run}->finish;
	return $victim->{err} =~ /(?:ERROR|FATAL):  (\w{5})/ ? $1 : $victim->{err};
}

# What a worker does for them, it does when it likes: it may be done already.
my %by_worker = map { $_ => 1 } 'overten_flush_usage()', 'overten_refresh_signing_keys()';

my (%places, %cancels, %timeouts);
foreach my $function (sort keys %calls)
{
	my @wrong;

	foreach my $table (@tables)
	{
		# What is in a cache is not looked up.
		ask($locker, "UPDATE overten_auth.api_keys SET name = name WHERE key_id = '$key'");
		ask($locker, "BEGIN; LOCK overten_auth.$table");
		my $victim = start_victim($calls{$function});
		my $waits = awaited($victim);
		ask($watcher, q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'victim'})
		  if $waits ne '';
		my $outcome = outcome($victim);
		my $expected = $waits ne '' ? '57014' : '';
		push @wrong, "$table: $outcome instead of $expected"
		  if $outcome ne $expected && !$by_worker{$function};
		if ($outcome eq '57014')
		{
			$cancels{$function}++;
			$places{$function}{ $waits =~ s/overten_auth\.//r } = 1;
			$timeouts{$function}++ if sqlstate_of($node, "SET statement_timeout = '100ms'; BEGIN; $calls{$function}") eq '57014';
		}
		ask($locker, 'ROLLBACK');
	}
	is(join('; ', @wrong), '', "$function is cancelled or succeeds");
	cmp_ok($cancels{$function} // 0, '>', 0,
		'it is cancelled at ' . join(', ', sort keys %{ $places{$function} }));
	cmp_ok($timeouts{$function} // 0, '>=', $by_worker{$function} ? 1 : $cancels{$function}, 'and timed out');
	is(ask($node, "SELECT $state"), $before, 'which changes nothing');
	is(sqlstate_of($node, "BEGIN; $calls{$function}; ROLLBACK"), '', 'by itself it succeeds');
}
foreach my $function (sort keys %brief)
{
	my $over = "SELECT count($brief{$function}) FROM generate_series(1, 10000000000) i";
	my $victim = start_victim($over);

	wait_until('it runs', sub { ask($watcher, q{SELECT count(*) FROM pg_stat_activity
		WHERE application_name = 'victim' AND state = 'active' AND clock_timestamp() > query_start + interval '100 ms'}) });
	ask($watcher, q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'victim'});
	is(outcome($victim), '57014', "$function is cancelled between two calls");
	is(sqlstate_of($node, "SET statement_timeout = '100ms'; $over"), '57014', 'and timed out');
}

flush_usage($node);
my $uses = 'SELECT sum(accepted) FROM overten_auth.key_usage';
my $uses_before = ask($node, $uses);
ask($locker, 'BEGIN; LOCK overten_auth.usage_batches');
my $adding = start_victim($call, 1);
is(awaited($adding), 'overten_auth.usage_batches', 'add_uses waits');
ask($watcher, q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'victim'});
is(outcome($adding), '57014', 'and is cancelled');
is(sqlstate_of($node, "SET statement_timeout = '100ms'; $call"), '57014', 'and timed out');
ask($locker, 'ROLLBACK');
is(ask($node, $uses), $uses_before, 'which adds nothing');
is(sqlstate_of($node, $call), '', 'by itself it succeeds');
is(ask($node, $uses), $uses_before + 1, 'and adds a use');

# What is left
is(ask($watcher, q{SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = relation
	WHERE c.relnamespace = 'overten_auth'::regnamespace}), 0, 'nobody holds a lock');
is(ask($watcher, q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'victim'}), 0, 'nobody is left');
flush_usage($node);
is(verify($node, $secret), $key, 'keys are verified');
unlike(slurp_file($node->logfile), qr/still active| leak: |PANIC|terminated by signal|TRAP/,
	'no snapshot, reference or process is lost');

my ($all_cancels, $all_timeouts) = (0, 0);
$all_cancels += $_ foreach values %cancels;
$all_timeouts += $_ foreach values %timeouts;
report('Every function interrupted while it waits',
	[ 'function', 'waits for', 'cancels', 'timeouts' ],
	map({ [ "`$_`", join(', ', sort keys %{ $places{$_} }), $cancels{$_}, $timeouts{$_} ] } sort keys %calls),
	map({ [ "`$_`", 'nothing', '1, between calls', '1, between calls' ] } sort keys %brief),
	[ '`overten_auth.add_uses`', 'usage_batches', 1, 1 ],
	map({ [ "`$_`", 'nothing: a trigger', '', '' ] } @triggers),
	map({ [ "`$_`", 'nothing: for scripts', '', '' ] } @scripts),
	[ (scalar keys %calls) . ' that wait', '', $all_cancels, $all_timeouts ]);

$_->quit foreach $locker, $watcher;
$node->stop;
done_testing();
