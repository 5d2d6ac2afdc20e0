# What is accepted as a Firebase ID token and what is not, each rule broken
# one at a time: the cases are in TokenCases/, so that one server meets all of
# them in every order.  Then tenants, what is returned, and what is logged.  Not
# in pg_regress, because the tokens are signed with keys that are made for each run
# and hold the present time.

use strict;
use warnings;

use Crypt::Mac::HMAC qw(hmac);
use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use lib $FindBin::RealBin;
use FirebaseTokens;
use OvertenTest;
use TokenCases;

my $node = create_node('tokens', <<CONF);
overten_auth.firebase_project_id = '${\PROJECT}'
overten_auth.firebase_tenant = '*'
log_min_error_statement = error
log_error_verbosity = verbose
CONF
$node->safe_psql('postgres',
	q{SELECT overten_load_signing_keys($doc$} . jwk_set(@jwks) . '$doc$)');

# The server runs: now it cannot keep a token waiting until it expires.
$now = time;
require "TokenCases/$_.pm" foreach qw(Claims Signatures Forms);

# Other kinds of token.
my $custom_aud = 'https://identitytoolkit.googleapis.com/'
  . 'google.identity.identitytoolkit.v1.IdentityToolkit';
my $custom = token($key, header(kid => undef), {
		iss => 'sa@example.com', sub => 'sa@example.com', aud => $custom_aud,
		iat => $now - 1, exp => $now + 3599, uid => 'x' });
case('custom token', $custom, '28000');
my $signed = b64('{"alg":"HS256","typ":"JWT"}') . '.'
  . b64(json({ v => 0, iat => $now, d => { uid => 'x' } }));
my $legacy = "$signed." . b64(hmac('SHA256', 'secret', $signed));
case('legacy custom token', $legacy, '28000');
my $cookie = token($key, header(), claims(iss => "https://session.firebase.google.com/${\PROJECT}"));
my $app_check = token($key, header(), {
		iss => 'https://firebaseappcheck.googleapis.com/1', aud => [ 'projects/1', "projects/${\PROJECT}" ],
		sub => '1:1:web:1', iat => $now - 1, exp => $now + 3599 });
my $google = token($key, header(), claims(iss => 'https://accounts.google.com', aud => 'x.apps.googleusercontent.com'));

# Run them: each twice, for what the cache says must be the same.  COPY takes
# them as they are but for backslashes, tabs and newlines.
my $file = PostgreSQL::Test::Utils::tempdir() . '/cases';
open my $out, '>:raw', $file or die $!;
for my $i (0 .. $#cases)
{
	my ($name, $token, $expected, $skew) = @{ $cases[$i] };
	my %escape = ("\\" => '\\\\', "\n" => '\n', "\t" => '\t', "\r" => '\r');
	$token =~ s/([\\\n\t\r])/$escape{$1}/g;
	print $out "$i\t$skew\t$token\n";
}
close $out;
chmod 0644, $file;

$node->safe_psql('postgres', <<'SQL');
CREATE TABLE cases (id int, skew int, token text);
CREATE FUNCTION outcome(token text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
	message text;
BEGIN
	PERFORM * FROM overten_verify_firebase_jwt(token);
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
	RETURN pg_catalog.concat(SQLSTATE, '|', message, '|', detail);
END $$;
SQL
my $answers = $node->safe_psql('postgres', <<SQL);
COPY cases FROM '$file';
DO \$\$
DECLARE
	skew int;
BEGIN
	FOR skew IN SELECT DISTINCT c.skew FROM cases c LOOP
		PERFORM set_config('overten_auth.clock_skew', skew::text, false);
		EXECUTE format('CREATE TEMP TABLE outcomes_%s AS SELECT id, '
			'outcome(token) AS first, outcome(token) AS second FROM cases '
			'WHERE skew = %s', skew, skew);
	END LOOP;
END \$\$;
SELECT id, first, second FROM (SELECT * FROM outcomes_0 UNION ALL
	SELECT * FROM outcomes_60 UNION ALL SELECT * FROM outcomes_300) o ORDER BY id;
SQL

my %message = (
	'28000' => 'invalid Firebase ID token',
	'28OA1' => 'Firebase ID token has expired');
my @answers = split /\n/, $answers;
is(scalar @answers, scalar @cases, 'every token was looked at');
for my $answer (@answers)
{
	my ($id, $state, @rest) = split /\|/, $answer;
	my ($name, $token, $expected) = @{ $cases[$id] };
	$name =~ s/([^ -~])/sprintf '\\x{%x}', ord $1/ge;
	my ($first, $second) = $answer =~ /^\d+\|(ok|.*?\|.*?\|.*?)\|(ok|\d.*)$/s;

	is($state, $expected, $name);
	is($second, $first, "$name, again") if ($second // '') ne ($first // '');
	is($rest[0], $message{$expected}, "$name: message") if $state ne 'ok' && $rest[0] ne ($message{$expected} // '');
}

# Nor does it matter which tokens the session has had before: all of them again
# without the cache, in an order that no two runs share.
my ($count, $differing) = split /\|/, $node->safe_psql('postgres', <<'SQL');
SET overten_auth.cache_entries = 0;
CREATE TABLE alone AS SELECT id, token, NULL::text AS outcome FROM cases WHERE skew = 0;
UPDATE alone SET outcome = outcome(token);
SELECT count(*), count(*) FILTER (WHERE outcome(token) <> outcome)
FROM (SELECT a.* FROM alone a, generate_series(1, 10) ORDER BY random() OFFSET 0) shuffled;
SQL
is($differing, 0, 'in any order, each has the same outcome');
cmp_ok($count, '>', 9 * @cases, 'and these are nearly all, ten times');

# What is said of those that are another kind of token.
my @kinds = (
	[ $custom, qr/custom token/ ], [ $legacy, qr/legacy custom token/ ],
	[ $cookie, qr/session cookie/ ], [ $app_check, qr/App Check/ ],
	[ $google, qr/Google ID token/ ], [ $emulator, qr/not signed \(alg none\)\. Tokens of the Firebase emulator are never accepted/ ],
	[ "$h.$p.", qr/signature is empty/ ], [ '..', qr/three segments/ ], [ "$h..$s", qr/three segments/ ],
	[ "${emulator}AA", qr/emulator/ ]);
like($node->safe_psql('postgres', "SELECT outcome('$_->[0]')"), $_->[1], "says so: $_->[1]")
  for @kinds;

# Tenants.  A session that has accepted a token by one setting refuses it by
# another, and the other way round.
my %of_tenant = (
	none => token($key, header(), claims()),
	a => token($key, header(), claims(firebase => { tenant => 'a', sign_in_provider => 'password' })),
	A => token($key, header(), claims(firebase => { tenant => 'A' })),
	escaped => token($key, header(), claims_json('"firebase":{"tenant":"\u0061"}', { firebase => undef })),
	empty => token($key, header(), claims(firebase => { tenant => '' })),
	star => token($key, header(), claims(firebase => { tenant => '*' })),
	null => token($key, header(), claims(firebase => { tenant => undef })),
	number => token($key, header(), claims(firebase => { tenant => 5 })),
	list => token($key, header(), claims(firebase => { tenant => ['a'] })),
	'no firebase' => token($key, header(), claims(firebase => undef)),
	'elsewhere' => token($key, header(), claims(tenant => 'a')));
my %accepted = (
	'*' => [ sort keys %of_tenant ],
	'' => [ 'elsewhere', 'no firebase', 'none' ],
	'a' => [ 'a', 'escaped' ],
	'A' => ['A'],
	'5' => [],
	'b' => []);
my @settings = (sort(keys %accepted), reverse sort keys %accepted);
my @by_setting = split /\n/, $node->safe_psql('postgres', join '', map {
		my $setting = $_;
		"SET overten_auth.firebase_tenant = '$setting';\n",
		map { "SELECT outcome('$of_tenant{$_}') = 'ok';\n" } sort keys %of_tenant
	} @settings);
foreach my $setting (@settings)
{
	my @taken = grep { shift @by_setting eq 't' } sort keys %of_tenant;
	is_deeply(\@taken, $accepted{$setting}, "tokens that are accepted with tenant '$setting'");
}
like($node->safe_psql('postgres', "SET overten_auth.firebase_tenant = '$_->[0]'; SELECT outcome('$of_tenant{$_->[1]}')"), $_->[2], "says so: $_->[2]")
  for [ '', 'a', qr/^28000.*tenant, and overten_auth\.firebase_tenant is not set/ ], [ 'a', 'none', qr/^28000.*tenant is not the configured one/ ];

# What is returned.
my $full = token($key, header(), claims(
		sub => 'uid-1', email => 'jane@example.com', name => "J\x{e4}ne",
		auth_time => 1_700_000_000, iat => 1_700_000_001, exp => 4_000_000_000,
		n => 1.10, firebase => { tenant => 't-1', sign_in_provider => 'saml.x' }));
is($node->safe_psql('postgres', <<SQL),
SET timezone = 'UTC';
SELECT uid, email, email_verified, name, sign_in_provider, tenant, auth_time, issued_at, expires_at
FROM overten_verify_firebase_jwt('$full')
SQL
	"uid-1|jane\@example.com|t|J\xc3\xa4ne|saml.x|t-1|2023-11-14 22:13:20+00|2023-11-14 22:13:21+00|2096-10-02 07:06:40+00",
	'columns');
is($node->safe_psql('postgres', <<SQL),
SELECT claims = convert_from(decode(rpad(translate(split_part('$full', '.', 2), '-_', '+/'),
	(length(split_part('$full', '.', 2)) + 3) / 4 * 4, '='), 'base64'), 'utf8')::jsonb
FROM overten_verify_firebase_jwt('$full')
SQL
	't', 'claims are those of the payload');
my $bare = token($key, header(), { sub => 'x', aud => PROJECT, iss => $prefix . PROJECT, exp => $now + 1000, email_verified => 'true' });
is($node->safe_psql('postgres', <<SQL), 'x|t', 'what is not there is NULL');
SELECT uid, email IS NULL AND email_verified IS NULL AND name IS NULL AND
	sign_in_provider IS NULL AND tenant IS NULL AND auth_time IS NULL AND issued_at IS NULL
FROM overten_verify_firebase_jwt('$bare')
SQL
my $order = token($key, header(), claims_json('"bb":1,"a":{"z":1,"yy":2,"x":[{"d":1,"cc":2}]},"b\u0062b":2,"\u00e9":3,"B":4'));
is($node->safe_psql('postgres', <<SQL), 't', 'jsonb finds every member');
SELECT bool_and(claims -> k IS NOT NULL) AND claims #>> '{a,x,0,cc}' = '2' AND claims ->> 'bbb' = '2'
FROM overten_verify_firebase_jwt('$order'), unnest(ARRAY['bb', 'a', 'bbb', U&'\\00e9', 'B', 'sub', 'iss']) k
GROUP BY claims
SQL

# Nothing of it is in the log, though each refusal is.  The tokens stand in the
# statements themselves here, as literals, in functions and as parameters.
my @short = grep { $_->[2] ne 'ok' && length $_->[1] < 3000 && $_->[1] =~ /^[\w.-]+$/ } @cases;
$node->psql('postgres', join("\n",
		(map { "SELECT overten_verify_firebase_jwt('$_->[1]');" } @short),
		"DO \$\$BEGIN PERFORM overten_verify_firebase_jwt('$short[0][1]'); END\$\$;",
		"PREPARE p(text) AS SELECT overten_verify_firebase_jwt(\$1);",
		"EXECUTE p('$short[1][1]');"),
	on_error_stop => 0);
my $log = slurp_file($node->logfile);
like($log, qr/28000: invalid Firebase ID token/, 'refusals are in the log');
my @refused = $log =~ /ERROR: +28(?:000|OA1):/g;
cmp_ok(scalar @refused, '>=', @short + 2, 'each of them');
my @found = grep { $_->[1] =~ /^ey/ && (index($log, substr($_->[1], -40)) >= 0
		  || index($log, substr($_->[1], 60, 40)) >= 0) } grep { length $_->[1] > 100 } @cases;
is(scalar @found, 0, 'no token is in the log');
unlike($log, qr/SELECT overten_verify_firebase_jwt|PERFORM/, 'nor is a statement with one');
unlike($log, qr/PANIC|terminated by signal/, 'and the server has stood');

$node->stop;
done_testing();
