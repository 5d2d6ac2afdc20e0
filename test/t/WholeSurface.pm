
# Calls every function of the extension once, with secrets bound, in whatever
# environment a test has made, and checks the results.  Its own statements
# qualify every name and operator, so that a hostile search_path can affect only
# the extension.

package WholeSurface;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use FirebaseTokens;
use IPC::Run;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(surface_settings run_bound run_surface surface_token
  surface_document random_key uncalled_functions);

my $dir;

# The harness does not know before.
INIT { $dir = PostgreSQL::Test::Utils::tempdir }

my $key = new_rsa();
my $certificate = certificate($key);
my $document = surface_document('key-1');
my $scripts = 0;
my $persons = 0;

# A token of the signing key, for a person.
sub surface_token
{
	my ($uid) = @_;

	return token($key, header(), claims(sub => $uid));
}

# The document with that key, under these ids.
sub surface_document
{
	my (@kids) = @_;

	return json({ map { $_ => $certificate } @kids });
}

# What a server needs whose worker is to be part of it.
sub surface_settings
{
	my (@databases) = @_;

	open my $file, '>', "$dir/answer" or die $!;
	print $file "HTTP/1.1 200 OK\r\nCache-Control: max-age=3600\r\n\r\n$document";
	close $file;
	return <<"EOC";
shared_preload_libraries = 'overten_auth'
overten_auth.databases = '${\join ', ', @databases}'
overten_auth.flush_interval = 1h
overten_auth.firebase_project_id = '${\PROJECT}'
overten_auth.signing_keys_command = 'cat "$dir/answer"'
track_functions = all
EOC
}

# Run a script of pgbench once, its variables bound.  Returns the exit status
# and what it wrote to stderr.
sub run_bound
{
	my ($where, $script, $options, %variables) = @_;
	my ($node, $database) = ref $where eq 'ARRAY' ? @$where : ($where, 'postgres');
	my $name = "$dir/script" . $scripts++;
	my ($stdout, $stderr);

	append_to_file("$name.sql", $script);
	local %ENV = $node->_get_env();
	local $ENV{PGOPTIONS} = $options;
	IPC::Run::run(
		[
			'pgbench', '-n', '-t', 1, '-M', 'extended',
			map({ ('-D', "$_=$variables{$_}") } sort keys %variables),
			'-f', "$name.sql", $database
		],
		'>', \$stdout, '2>', \$stderr);
	return ($? >> 8, $stderr);
}

# A statement that fails unless a condition holds, of rows if there are any to
# have come.
sub check
{
	my ($condition, $from) = @_;

	return "SELECT 1 OPERATOR(pg_catalog./) coalesce(pg_catalog.bool_and(holds IS TRUE), false)::pg_catalog.int4 "
	  . "FROM (SELECT ($condition) AS holds " . ($from ? "FROM $from" : '') . ") checked;\n";
}

sub equal { return "$_[0] OPERATOR(pg_catalog.=) $_[1]"; }

# The calls.  "public" is where the functions are.
sub surface
{
	my $api = "'/api/v1/organizations/' OPERATOR(pg_catalog.||) :org_id::pg_catalog.text OPERATOR(pg_catalog.||) '/api-keys'";
	my $handle = sub {
		my ($status, $method, $path, $headers, $body) = @_;
		return check(equal('status', $status),
			"public.overten_handle_request('$method', $path, $headers, $body)");
	};
	my $headers = sub {
		my ($name, $value) = @_;
		return "SELECT pg_catalog.json_build_object('authorization', pg_catalog.concat('Bearer ', ${value}::pg_catalog.text), 'content-type', 'application/json', 'x-overten-org-id', :org_id::pg_catalog.text, 'x-overten-key-id', :key_id::pg_catalog.text)::pg_catalog.text AS $name \\gset\n";
	};
	my $request = sub {
		return "SELECT pg_catalog.set_config('request.headers', :$_[0], false) IS NOT NULL AS requested \\gset\n";
	};

	return join '',
	  "SELECT org_id FROM public.overten_create_org(:name) \\gset\n",
	  check('NOT public.overten_set_tier(:org_id, \'free\')'),
	  check('public.overten_set_api_access(:org_id, true)'),
	  check('public.overten_add_member(:org_id, :uid)'),
	  check('public.overten_add_member(:org_id, \'eve\')'),
	  check('public.overten_remove_member(:org_id, \'eve\')'),
	  check('public.overten_rename_org(:org_id, \'Renamed\')'),
	  check('public.overten_rename_org(:org_id, :name)'),
	  "SELECT invitation_id, code FROM public.overten_invite(:org_id, 'Eve') \\gset\n",
	  check(equal('invitation_id', ':invitation_id'), 'public.overten_list_invitations(:org_id)'),
	  check(equal('public.overten_accept_invitation(:code, \'eve\')', ':org_id')),
	  check('NOT public.overten_withdraw_invitation(:org_id, :invitation_id)'),
	  check(equal('pg_catalog.count(*)', 2), 'public.overten_list_members(:org_id)'),
	  check('public.overten_remove_member(:org_id, \'eve\')'),
	  check(equal('name', ':name'), "public.overten_all_orgs(name_part => 'every', max_orgs => 1000) WHERE org_id OPERATOR(pg_catalog.=) :org_id"),
	  check(equal('name', ':name'), "public.overten_list_orgs(:uid) WHERE org_id OPERATOR(pg_catalog.=) :org_id"),
	  "SELECT key_id, secret FROM public.overten_mint_key(:org_id, 'first') \\gset\n",
	  "SELECT webhook_secret AS webhook1 FROM public.overten_verify_key(:secret) \\gset\n",
	  check(equal('pg_catalog.length(:webhook1)', 38)),
	  check(equal('key_id', ':key_id'), 'public.overten_verify_key(:secret)'),
	  check(equal('key_id', ':key_id'), 'public.overten_verify_key_digest(pg_catalog.sha256(pg_catalog.convert_to(:secret, \'UTF8\')))'),
	  check('public.overten_key_checksum_ok(:secret)'),
	  check(equal('public.overten_slot(:secret::pg_catalog.text)', 'public.overten_slot(pg_catalog.sha256(pg_catalog.convert_to(:secret, \'UTF8\')))')),
	  "SELECT system_identifier FROM pg_catalog.pg_control_system() \\gset\n",
	  "CALL overten_auth.add_uses(:system_identifier, '00000000-0000-4000-8000-000000000000', 1, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}');\n",
	  check(equal('prefix', 'pg_catalog.left(:secret, 12)'), 'public.overten_list_keys(:org_id)'),
	  check('public.overten_rename_key(:org_id, :key_id, \'renamed\')'),
	  check('public.overten_set_key_details(:org_id, :key_id, \'the first\', \'{"a": 1}\')'),
	  check(equal('description', "'the first'"), 'public.overten_key_details(:org_id, :key_id)'),
	  "SELECT key_id AS test_id, secret AS test_secret FROM public.overten_mint_key(:org_id, 'test', environment => 'test') \\gset\n",
	  "SELECT key_id AS rotated_id, secret AS rotated_secret FROM public.overten_rotate_key(:org_id, :test_id, '0') \\gset\n",
	  check(equal('pg_catalog.count(*)', 2), 'public.overten_rotation_progress(:org_id, :rotated_id)'),
	  check(equal('pg_catalog.count(*)', 0), 'public.overten_verify_key(:rotated_secret)'),

	  check('public.overten_set_expiry(:org_id, :key_id, \'2101-01-01\')'),
	  check('public.overten_disable_key(:org_id, :key_id, \'odd\')'),
	  check(equal('pg_catalog.count(*)', 0), 'public.overten_verify_key(:secret)'),
	  check('public.overten_enable_key(:org_id, :key_id)'),
	  check('public.overten_set_scopes(:org_id, :key_id, \'{read}\')'),
	  check(equal('pg_catalog.count(*)', 0), 'public.overten_verify_key(:secret)'),
	  check('public.overten_set_scopes(:org_id, :key_id, NULL)'),
	  check(equal('outcome', "'unknown'"), 'public.overten_check_addresses(:org_id, :key_id, \'{192.0.2.1}\')'),
	  check('public.overten_set_allowed_addresses(:org_id, :key_id, \'{192.0.2.1}\')'),
	  check(equal('pg_catalog.count(*)', 0), 'public.overten_verify_key(:secret)'),
	  check('public.overten_set_allowed_addresses(:org_id, :key_id, NULL)'),
	  check(equal('status', "'active'"), 'public.overten_key_restrictions(:org_id, :key_id)'),

	  check('key_id IS NOT NULL', 'public.overten_find_keys(:org_id)'),

	  check("public.overten_set_limit('org', :org_id, 'limit', 1000, '1 hour')"),
	  check(equal('quota', 1000), "public.overten_list_limits(:org_id) WHERE scope OPERATOR(pg_catalog.=) 'org'"),
	  check(equal('key_id', ':key_id'), 'public.overten_admit(:secret)'),
	  check(equal('remaining', 989), 'public.overten_admission(:secret, 10)'),
	  check('public.overten_charge(:key_id, 5) IS NOT NULL'),
	  check(equal('remaining', 984), 'public.overten_limit_status(:org_id) WHERE key_id OPERATOR(pg_catalog.=) :key_id'),
	  check("public.overten_drop_limit('org', :org_id, 'limit')"),

	  "BEGIN;\n",
	  check(equal('key_id', ':key_id'), 'public.overten_authenticate(:secret)'),
	  check('public.overten_has_scope(\'read\')'),
	  check(equal('public.overten_current_key()', ':key_id')),
	  check(equal('public.overten_current_org()', ':org_id')),
	  "COMMIT;\n",

	  check(equal('public.overten_grant(:org_id, 100, \'welcome\', \'payment\')', 100)),
	  check(equal('public.overten_spend(:org_id, 30, \'request\', \'summary\')', 70)),
	  check('public.overten_hold(:org_id, 60, \'work\') OPERATOR(pg_catalog.>) pg_catalog.now()'),
	  check(equal('available', 10), 'public.overten_credit_balance(:org_id)'),
	  check(equal('public.overten_settle(:org_id, 20, \'work\')', 50)),
	  check('NOT public.overten_release(:org_id, \'work\')'),
	  check('public.overten_hold(:org_id, 50, \'late\') IS NOT NULL'),
	  check('public.overten_release(:org_id, \'late\')'),
	  check(equal('public.overten_spend(:org_id, 1, \'last\')', 49)),
	  check(equal('pg_catalog.sum(amount)', 49), 'public.overten_list_ledger(:org_id)'),

	  "SELECT public.overten_import_key(:org_id, 'imported', pg_catalog.sha256(pg_catalog.convert_to(:imported1, 'UTF8')), pg_catalog.left(:imported1, 12)) AS import_id \\gset\n",
	  check(equal('key_id', ':import_id'), 'public.overten_verify_key(:imported1)'),
	  check(equal('public.overten_import_keys(ARRAY[:org_id::pg_catalog.text], ARRAY[\'imported\'::pg_catalog.text], ARRAY[pg_catalog.sha256(pg_catalog.convert_to(:imported2, \'UTF8\'))], ARRAY[pg_catalog.left(:imported2, 12)])', 1)),

	  "SELECT public.overten_rotate_webhook_secret(:org_id, '1 hour') AS webhook2 \\gset\n",
	  check(equal('webhook_secret', ':webhook2'), 'public.overten_verify_key(:secret)'),
	  check(equal('pg_catalog.length(public.overten_sign_webhook(:org_id, \'msg_1\', 1, \'{}\'::pg_catalog.text))', 95)),
	  check(equal('public.overten_sign_webhook(:org_id, \'msg_1\', 1, \'{}\'::pg_catalog.bytea)', 'public.overten_sign_webhook(:org_id, \'msg_1\', 1, \'{}\'::pg_catalog.text)')),
	  check(equal('public.overten_reseal()', 0)),
	  check(equal('needed', 'present'), 'overten_auth.master_key_ids()'),

	  check(equal('public.overten_load_signing_keys(:document)', 1)),
	  check(equal('public.overten_refresh_signing_keys()', 1)),
	  check(equal('uid', ':uid'), 'public.overten_verify_firebase_jwt(:token)'),
	  "SELECT org_id AS signed_up, secret AS signup_secret, webhook_secret AS signup_webhook FROM public.overten_signup(:uid, 'Signed up') \\gset\n",
	  check(equal('org_id', ':signed_up'), 'public.overten_verify_key(:signup_secret)'),

	  $headers->('by_token', ':token'), $headers->('by_key', ':secret'),
	  $handle->(200, 'GET', "'/api/v1/verify'", ':by_key', 'NULL'),
	  check(equal('status', 200), 'public.overten_authorize_request(\'cost=1\', :by_key)'),
	  "SELECT pg_catalog.json_build_object('x-overten-api-key', :secret::pg_catalog.text)::pg_catalog.text AS by_key_header \\gset\n",
	  check(equal('status', 200), 'public.overten_authorize_request(\'cost=1\', :by_key_header)'),
	  $handle->(200, 'GET', "'/api/v1/verify'", ':by_key_header', 'NULL::pg_catalog.bytea'),
	  $handle->(401, 'GET', $api, ':by_key_header', 'NULL'),
	  $handle->(200, 'GET', "'/api/v1/verify'", ':by_key', 'NULL::pg_catalog.bytea'),
	  $handle->(201, 'POST', $api, ':by_token', q('{"name":"over HTTP"}')),
	  $handle->(200, 'GET', $api, ':by_token', 'NULL'),
	  $handle->(401, 'GET', $api, ':by_key', 'NULL'),
	  $request->('by_token'),
	  "SELECT pg_catalog.json_extract_path_text(made, 'secret') AS api_secret, pg_catalog.json_extract_path_text(made, 'key_id') AS api_key, pg_catalog.json_extract_path_text(made, 'webhook_secret') AS api_webhook FROM overten_api.create_api_key('{\"name\":\"by PostgREST\"}') made \\gset\n",
	  "SELECT pg_catalog.json_extract_path_text(made, 'secret') AS api_signup_secret FROM overten_api.signup('{\"org_name\":\"Signed up\"}') made \\gset\n",
	  check('overten_api.list_api_keys(:org_id) IS NOT NULL'),
	  check('overten_api.show_api_key(:org_id, :key_id) IS NOT NULL'),
	  check('overten_api.change_api_key(NULL) IS NOT NULL'),
	  check('overten_api.rotate_api_key(NULL) IS NOT NULL'),
	  check('overten_api.key_rotation(:org_id, :key_id) IS NOT NULL'),
	  check('overten_api.features() IS NOT NULL'),
	  check('overten_api.list_organizations() IS NOT NULL'),
	  check('overten_api.list_members(:org_id) IS NOT NULL'),
	  check('overten_api.list_invitations(:org_id) IS NOT NULL'),
	  check('overten_api.audit_log(:org_id) IS NOT NULL'),
	  check('overten_api.organization_usage(:org_id) IS NOT NULL'),
	  check('overten_api.organization_limits(:org_id) IS NOT NULL'),
	  check(equal("pg_catalog.json_extract_path_text(overten_api.organization_credits(:org_id), 'balance')", "'49'")),
	  "SELECT pg_catalog.json_extract_path_text(made, 'org_id') AS doomed FROM overten_api.signup('{\"org_name\":\"Doomed\"}') made \\gset\n",
	  "SELECT pg_catalog.json_build_object('org_id', :doomed::pg_catalog.text, 'name', 'Renamed', 'item_id', 'nobody')::pg_catalog.text AS about_doomed \\gset\n",
	  "SELECT pg_catalog.json_build_object('authorization', pg_catalog.concat('Bearer ', :token::pg_catalog.text))::pg_catalog.text AS by_token_alone \\gset\n",
	  $request->('by_token_alone'),
	  check(equal("pg_catalog.json_extract_path_text(overten_api.rename_organization(:about_doomed::pg_catalog.json), 'name')", "'Renamed'")),
	  check("pg_catalog.json_extract_path_text(overten_api.rotate_webhook_secret(:about_doomed::pg_catalog.json), 'webhook_secret') IS NOT NULL"),
	  "SELECT made AS invited, pg_catalog.json_extract_path_text(made, 'invitation_id') AS invited_id FROM overten_api.create_invitation(:about_doomed::pg_catalog.json) made \\gset\n",
	  check(equal("pg_catalog.json_extract_path_text(overten_api.accept_invitation(:invited::pg_catalog.json), 'error', 'code')", "'already_member'")),
	  check("overten_api.withdraw_invitation(pg_catalog.json_build_object('org_id', :doomed::pg_catalog.text, 'item_id', :invited_id::pg_catalog.text)) IS NOT NULL"),
	  check("public.overten_add_member(:doomed, 'nobody')"),
	  check('overten_api.remove_member(:about_doomed::pg_catalog.json) IS NOT NULL'),
	  check('overten_api.close_organization(:about_doomed::pg_catalog.json) IS NOT NULL'),
	  check('NOT public.overten_close_org(:doomed)'),
	  $request->('by_token'),
	  check('overten_api.key_usage(:org_id, :key_id) IS NOT NULL'),
	  check('overten_api.revoke_api_key(NULL) IS NOT NULL'),
	  check(equal('revoked_by', ':uid'), 'public.overten_describe_key(:org_id, :key_id)'),
	  check(equal('pg_catalog.count(*)', 0), 'public.overten_verify_key(:secret)'),
	  "SELECT pg_catalog.json_build_object('x-overten-authorization', pg_catalog.concat('Bearer ', :api_secret::pg_catalog.text))::pg_catalog.text AS by_api_key \\gset\n",
	  $request->('by_api_key'),
	  check(equal("pg_catalog.json_extract_path_text(overten_api.verify(), 'org_id')", ':org_id')),
	  "BEGIN;\n",
	  check('overten_api.authenticate_request() IS NOT NULL'),
	  check('overten_api.authorize() IS NOT NULL'),
	  check(equal('public.overten_current_org()', ':org_id')),
	  "COMMIT;\n",

	  check('public.overten_flush_usage() IS NOT NULL'),
	  check('pg_catalog.sum(accepted) OPERATOR(pg_catalog.>) 2 AND pg_catalog.sum(refused) OPERATOR(pg_catalog.>=) 1', 'public.overten_key_usage(:org_id, :key_id)'),
	  check(equal('pg_catalog.count(*)', 3), "public.overten_org_usage(:org_id, pg_catalog.now() OPERATOR(pg_catalog.-) '2 hours'::pg_catalog.interval, pg_catalog.clock_timestamp())"),
	  check(equal('kind', "'used_after_revocation'"), 'public.overten_key_anomalies(:org_id, :key_id)'),
	  check(equal('kind', "'used_after_revocation'"), 'public.overten_org_anomalies(:org_id)'),
	  check(equal('kind', "'used_after_revocation'"), 'public.overten_all_anomalies() WHERE org_id OPERATOR(pg_catalog.=) :org_id'),
	  check(equal('usage_mode', "'shared memory'") . ' AND flush_failure IS NULL', 'public.overten_status()'),
	  check('accepted OPERATOR(pg_catalog.>) 0', 'public.overten_stat'),
	  check('pg_catalog.count(*) FILTER (WHERE problem OPERATOR(pg_catalog.~~) \'It failed%\') OPERATOR(pg_catalog.=) 0', 'public.overten_check()'),

	  check('NOT public.overten_revoke_key(:org_id, :key_id, \'again\')'),
	  check('public.overten_revoke_leaked(:imported2, \'found\')'),
	  check(equal('pg_catalog.count(*)', 0), 'public.overten_verify_key(:imported2)'),
	  check(equal('public.overten_revoke_keys_of(:uid)', 4)),
	  check(equal('public.overten_revoke_all(:org_id)', 2)),
	  check(equal('pg_catalog.count(*)', 0), 'public.overten_verify_key(:api_secret)'),
	  check(equal('pg_catalog.count(*)', 38), 'overten_auth.audit_log WHERE org_id OPERATOR(pg_catalog.=) :org_id'),

	  # Erasing is only for READ COMMITTED.
	  "SET default_transaction_isolation = 'read committed';\n",
	  check(equal('public.overten_purge_keys(:org_id, pg_catalog.now())', 7)),
	  check('public.overten_erase_person(\'eve\')'),
	  check('public.overten_erase_org(:org_id)'),
	  check(equal('pg_catalog.count(*)', 0), 'overten_auth.audit_log WHERE org_id OPERATOR(pg_catalog.=) :org_id AND uid IS NOT NULL');
}

# A key such as another system may have minted.
sub random_key
{
	return 'sk_live_'
	  . join '', map { ('0' .. '9', 'A' .. 'Z', 'a' .. 'z')[ rand 62 ] } 1 .. 28;
}

# Do all of it, for a new person and an org of his; a check of the calling test.
sub run_surface
{
	my ($where, $name, $options) = @_;
	my $uid = 'person' . $persons++;
	my ($node, $database) = ref $where eq 'ARRAY' ? @$where : ($where, 'postgres');

	local $ENV{PGOPTIONS} = $options // '';
	$node->safe_psql($database,
		"SET session_replication_role = replica;
		INSERT INTO overten_auth.scopes (name) VALUES ('read') ON CONFLICT DO NOTHING",
		extra_params => [ '-U', scalar getpwuid $> ]);
	my ($status, $stderr) = run_bound(
		$where, surface(), $options // '',
		name => 'Everywhere',
		imported1 => random_key(),
		imported2 => random_key(),
		uid => $uid,
		token => surface_token($uid),
		document => $document);

	is($status, 0, "every function works: $name") or diag($stderr);
	return $stderr;
}

# The functions of the extension that nobody has called in a database, without
# those of triggers that refuse, and those that update scripts and messages use.
sub uncalled_functions
{
	my ($where) = @_;

	return ask($where, <<'EOQ');
SELECT string_agg(objid::regprocedure::text, ' ') FROM pg_depend
	LEFT JOIN pg_stat_user_functions ON funcid = objid
WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e' AND classid = 'pg_proc'::regclass
	AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'overten_auth')
	AND coalesce(calls, 0) = 0 AND objid::regprocedure::text NOT IN
		('overten_auth.refuse_change()', 'overten_auth.inventory()', 'overten_auth.some_of(text[])')
	-- The planner puts these into the statements of overten_key_anomalies.
	AND objid::regprocedure::text NOT LIKE ALL ('{overten_auth.anomaly_%,overten_auth.key_history(%}');
EOQ
}

1;
