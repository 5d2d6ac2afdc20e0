
# The identity service for development: the real Firebase web SDK signs people up and
# in there, a server that fetches its key accepts their tokens through the gateway, and
# neither takes anything else.  pg_regress has no HTTP.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use GatewayTest;
use IO::Socket::INET;
use JSON::PP qw(decode_json encode_json);
use MIME::Base64 qw(encode_base64url decode_base64url);
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/../..";
my $port = free_port();
my $url = "http://127.0.0.1:$port";
my $keys = '/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com';
my $accounts = '/identitytoolkit.googleapis.com/v1/accounts';
my $json = 'Content-Type: application/json';

my $node = create_node('identity', <<"EOC");
shared_preload_libraries = 'overten_auth'
overten_auth.databases = 'postgres'
overten_auth.firebase_project_id = 'demonstration'
overten_auth.signing_keys_command = 'curl --disable --noproxy "*" --silent --show-error --include $url$keys'
EOC
$node->safe_psql('postgres', slurp_file("$top/gateway/roles.sql"));

my $identity = start_identity('identity_service', PORT => $port);
is($identity->{url}, $url, 'the service listens where it is told to');
like(slurp_file($identity->{err}), qr/FOR DEVELOPMENT ONLY/, 'the service says what it is for');
ok(!IO::Socket::INET->new(PeerAddr => '127.0.0.2', PeerPort => $port), 'it does not listen on other addresses');
is(ask($node, 'SELECT overten_refresh_signing_keys()'), '1', 'the server fetches its key');

my $gateway = start_gateway($node, 'identity_gateway');

# What the API says to an ID token.
sub asked
{
	my ($token) = @_;

	return summary(request($gateway->{url}, 'GET', '/api/v1/organizations', ["Authorization: Bearer $token"]));
}

# What the service says to a request.
sub sent
{
	my ($method, $path, $body, @headers) = @_;
	my $answer = request($url, $method, $path, [ $json, @headers ], defined $body ? encode_json($body) : undef);
	my $object = eval { decode_json($answer->{body}) } // {};

	return wantarray ? ($answer, $object) : "$answer->{status} " . ($object->{error}{message} // '');
}

my $sdk = decode_json(node_script('firebase_sdk.mjs', $url));
is($sdk->{signedUp}{email}, 'ada@example.com', 'the SDK signs up');
is(asked($sdk->{signedUp}{token}), '200', 'and the token is accepted');
is($sdk->{signedIn}{uid}, $sdk->{signedUp}{uid}, 'the SDK signs in as the same person');
is(asked($sdk->{signedIn}{token}), '200', 'and the token is accepted, too');
isnt($sdk->{refreshed}{token}, $sdk->{signedIn}{token}, 'the SDK gets a new token');
is(asked($sdk->{refreshed}{token}), '200', 'and that is accepted');
is($sdk->{refreshed}{name}, 'Ada', 'a name can be changed');
is($sdk->{nobody}, undef, 'after refusals nobody is signed in');
my %codes = (
	again => 'auth/email-already-in-use', weak => 'auth/weak-password', noAddress => 'auth/invalid-email',
	wrongPassword => 'auth/invalid-credential', unknown => 'auth/invalid-credential',
	reset => 'auth/operation-not-allowed', linked => 'auth/operation-not-allowed',
	afterNewPassword => 'auth/user-token-expired', oldPassword => 'auth/invalid-credential', newPassword => 'no error',
	deleted => 'auth/user-token-expired');
is($sdk->{$_}, $codes{$_}, "$_: $codes{$_}") foreach sort keys %codes;

my $signup = request($gateway->{url}, 'POST', '/api/v1/signup', [ "Authorization: Bearer $sdk->{signedIn}{token}", $json ], '{"org_name": "Acme"}');
is(summary($signup), '201', 'the person signs up for the API');
is(summary(request($gateway->{url}, 'POST', '/api/v1/signup', [ "Authorization: Bearer $sdk->{anonymous}{token}", $json ], '{"org_name": "Acme"}')),
	'403 anonymous_not_allowed', 'an anonymous person cannot');

# Tokens that somebody has changed.
my ($header, $claims, $signature) = split /\./, $sdk->{signedIn}{token};
my %other = (%{ decode_json(decode_base64url($claims)) }, sub => 'somebody');
my $none = encode_base64url('{"alg":"none","typ":"JWT"}');
my $forged = encode_base64url(encode_json(\%other));
is(asked("$none.$claims."), '401 invalid_token', 'alg none is refused');
is(asked("$none.$claims.$signature"), '401 invalid_token', 'also with a signature');
is(asked("$header.$forged.$signature"), '401 invalid_token', 'claims that were not signed are refused');
foreach my $token ("$none.$claims.", "$header.$forged.$signature", 'x', '..', '', "$sdk->{signedIn}{token}.x")
{
	is(scalar sent('POST', "$accounts:lookup?key=any", { idToken => $token }), '400 INVALID_ID_TOKEN',
		'the service refuses the token, too: ' . substr($token, 0, 20));
}

# What else the service refuses.
my %ada = (email => 'ada@example.com', password => 'second-programmer');
is(scalar sent('POST', "$accounts:signInWithPassword?key=any", \%ada), '200 ', 'any API key will do');
like(scalar sent('POST', "$accounts:signInWithPassword", \%ada), qr/^400 API key not valid/, 'none will not');
is(scalar sent('POST', "$accounts:signInWithPassword?key=any", { %ada, email => undef }), '400 INVALID_EMAIL', 'null is no address');
is(scalar sent('POST', "$accounts:signInWithPassword?key=any", { email => 'ada@example.com' }), '400 MISSING_PASSWORD', 'a password is necessary');
like(scalar sent('POST', "$accounts:createAuthUri?key=any", {}), qr/^501 OPERATION_NOT_ALLOWED/, 'what the service does not know');
like(scalar sent('POST', "$accounts:constructor?key=any", {}), qr/^501 OPERATION_NOT_ALLOWED/, 'nor what every object has');
like(scalar sent('POST', "$accounts:lookup?key=any", [1]), qr/^400 INVALID_JSON/, 'a list is no request');
is(scalar sent('POST', "$accounts:lookup?key=any", { x => 'x' x 70_000 }), '413 PAYLOAD_TOO_LARGE', 'nor is a long text');
is(scalar sent('GET', '/nowhere'), '404 NOT_FOUND', 'another path');
is(scalar sent('POST', '/securetoken.googleapis.com/v1/token?key=any', { grant_type => 'refresh_token', refresh_token => 'x' }),
	'400 INVALID_REFRESH_TOKEN', 'a refresh token that it has not given');

# Verifying an email address, by a link that is listed and not sent.
my $letters = '/emulator/v1/projects/demonstration/oobCodes';
my (undef, $unverified) = sent('POST', "$accounts:signInWithPassword?key=any", \%ada);
my $claim = sub { return decode_json(decode_base64url((split /\./, $_[0])[1]))->{email_verified} ? 1 : 0 };
is($claim->($unverified->{idToken}), 0, 'an address is not verified at first');
like(scalar sent('POST', "$accounts:sendOobCode?key=any", { requestType => 'PASSWORD_RESET', email => 'ada@example.com' }), qr/^501 OPERATION_NOT_ALLOWED/, 'no password can be reset');
is(scalar sent('POST', "$accounts:sendOobCode?key=any", { requestType => 'VERIFY_EMAIL', idToken => 'x' }), '400 INVALID_ID_TOKEN', 'only for the person who is signed in');
my (undef, $anonymous) = sent('POST', "$accounts:signUp?key=any", { returnSecureToken => JSON::PP::true });
is(scalar sent('POST', "$accounts:sendOobCode?key=any", { requestType => 'VERIFY_EMAIL', idToken => $anonymous->{idToken} }), '400 MISSING_EMAIL', 'nor without an address');
is(scalar @{ (sent('GET', $letters))[1]{oobCodes} }, 0, 'so far no email is listed');
is(scalar sent('POST', "$accounts:sendOobCode?key=any", { requestType => 'VERIFY_EMAIL', idToken => $unverified->{idToken} }), '200 ', 'an email is sent');
my ($letter) = @{ (sent('GET', $letters))[1]{oobCodes} };
is("$letter->{email} $letter->{requestType}", 'ada@example.com VERIFY_EMAIL', 'it is listed');
my ($path) = $letter->{oobLink} =~ /^\Q$url\E(.*)/;
is(scalar sent('GET', '/emulator/action?mode=verifyEmail&oobCode=x'), '400 INVALID_OOB_CODE', 'another link');
is(scalar sent('GET', '/emulator/action'), '400 INVALID_OOB_CODE', 'a link without a code');
is(scalar sent('GET', $path), '200 ', 'the link can be opened');
is(scalar sent('GET', $path), '400 INVALID_OOB_CODE', 'and not twice');
is(join(' ', map { $_->{emailVerified} ? 1 : 0 } @{ (sent('POST', "$accounts:lookup?key=any", { idToken => $unverified->{idToken} }))[1]{users} }), '1', 'then the address is verified');
my (undef, $fresh) = sent('POST', '/securetoken.googleapis.com/v1/token?key=any', { grant_type => 'refresh_token', refresh_token => $unverified->{refreshToken} });
is($claim->($fresh->{id_token}), 1, 'and the next token says so');
ask($node, 'ALTER DATABASE postgres SET overten_auth.signup_requires_verified_email = on');
my %before = map { $_ => ask($node, "SELECT body::json #>> '{error,code}' FROM overten_handle_request('POST', '/api/v1/signup', json_build_object('authorization', 'Bearer $_', 'content-type', 'application/json'), '{\"org_name\": \"x\"}'::text)") } $unverified->{idToken}, $fresh->{id_token};
is("$before{ $unverified->{idToken} }|$before{ $fresh->{id_token} }", 'email_not_verified|', 'which a service can ask for');
ask($node, 'ALTER DATABASE postgres RESET overten_auth.signup_requires_verified_email');

# After a popup with a provider, which has verified the address; the window's answer is in a URI.
sub entered
{
	my ($provider, $claims) = @_;
	my $uri = "$url/emulator/auth/handler?providerId=$provider&id_token=" . ($claims =~ s/([^\w.-])/sprintf '%%%02X', ord $1/ger);

	return sent('POST', "$accounts:signInWithIdp?key=any", { requestUri => $uri, sessionId => 'none', returnSecureToken => JSON::PP::true });
}
my $provider = sub { return decode_json(decode_base64url((split /\./, $_[0])[1]))->{firebase}{sign_in_provider} };
my (undef, $popped) = entered('google.com', '{"email": "Grace@Example.com", "name": "Grace"}');
is("$popped->{email} $popped->{displayName} " . $provider->($popped->{idToken}) . ' ' . $claim->($popped->{idToken}), 'grace@example.com Grace google.com 1', 'a person enters by a popup');
is(asked($popped->{idToken}), '200', 'and the server takes the token');
is((entered('google.com', '{"email": "grace@example.com"}'))[1]{localId}, $popped->{localId}, 'again it is the same person');
is(scalar sent('POST', "$accounts:signInWithPassword?key=any", { email => 'grace@example.com', password => 'undefined' }), '400 INVALID_LOGIN_CREDENTIALS', 'who has no password');
my (undef, $squatter) = sent('POST', "$accounts:signUp?key=any", { email => 'mary@example.com', password => 'not-hers' });
is((entered('google.com', '{"email": "mary@example.com"}'))[1]{localId}, $squatter->{localId}, 'somebody has used an address that was not verified');
is(scalar sent('POST', "$accounts:signInWithPassword?key=any", { email => 'mary@example.com', password => 'not-hers' }), '400 INVALID_LOGIN_CREDENTIALS', 'and does not know the password any more');
is((entered('google.com', '{"email": "ada@example.com"}'))[1]{email}, 'ada@example.com', 'one that was verified');
is(scalar sent('POST', "$accounts:signInWithPassword?key=any", \%ada), '200 ', 'keeps its password');
is(scalar entered('facebook.com', '{"email": "x@example.com"}'), '400 INVALID_IDP_RESPONSE', 'no other provider');
is(scalar entered('google.com', $_), '400 INVALID_IDP_RESPONSE', "no answer: $_") foreach '', 'x', 'null';
is(scalar entered('google.com', $_), '400 INVALID_EMAIL', "no address: $_") foreach '{"email": null}', '{"email": ["x@example.com"]}';
is(scalar sent('POST', "$accounts:signInWithIdp?key=any", {}), '400 INVALID_IDP_RESPONSE', 'nor nothing');
like(scalar sent('POST', "$accounts:signInWithIdp?key=any", { requestUri => 'x', idToken => $popped->{idToken} }), qr/^400 OPERATION_NOT_ALLOWED/, 'accounts are not linked');
like(request($url, 'GET', '/emulator/auth/handler?providerId=google.com')->{body}, qr/This is for development/, 'the window says what it is for');

# Pages of this machine may ask, and no others, whatever name they come by.
my ($answer) = sent('OPTIONS', "$accounts:signUp?key=any", undef, 'Origin: http://localhost:5173', 'Access-Control-Request-Method: POST', 'Access-Control-Request-Headers: x-client-version');
is("$answer->{status} @{ $answer->{headers}{'access-control-allow-origin'} } @{ $answer->{headers}{'access-control-allow-headers'} }",
	'204 http://localhost:5173 x-client-version', 'a preflight of a page of this machine');
foreach my $header ('Origin: https://evil.example', 'Origin: null', 'Origin: http://localhost.evil.example', 'Host: evil.example', "Host: evil.example:$port")
{
	($answer) = sent('POST', "$accounts:signInWithPassword?key=any", \%ada, $header);
	is("$answer->{status} " . ($answer->{headers}{'access-control-allow-origin'} // 'unreadable'), '403 unreadable', "not $header");
}

# A service that is started again has another key, and knows nobody.
stop_process($identity);
$identity = start_identity('identity_again', PORT => $port, TOKEN_LIFETIME => 1);
is($identity->{url}, $url, 'again');
is(scalar sent('POST', "$accounts:signInWithPassword?key=any", \%ada), '400 INVALID_LOGIN_CREDENTIALS', 'it has forgotten the people');
my (undef, $eve) = sent('POST', "$accounts:signUp?key=any", { email => 'eve@example.com', password => 'password' });
is(asked($eve->{idToken}), '401 invalid_token', 'the server does not know its new key');
is(ask($node, 'SELECT overten_refresh_signing_keys()'), '1', 'the server fetches it');
is(asked($sdk->{refreshed}{token}), '401 invalid_token', 'and refuses tokens of the old one');
wait_until('the token has expired', sub { asked($eve->{idToken}) eq '401 expired_token' });
pass('a token expires');
is(scalar sent('POST', "$accounts:lookup?key=any", { idToken => $eve->{idToken} }), '400 INVALID_ID_TOKEN', 'also for the service');
(undef, $eve) = sent('POST', '/securetoken.googleapis.com/v1/token?key=any', { grant_type => 'refresh_token', refresh_token => $eve->{refreshToken} });
ok($eve->{id_token}, 'it can be refreshed');
is(scalar sent('DELETE', '/emulator/v1/projects/demonstration/accounts'), '200 ', 'everybody is forgotten');
is(scalar sent('POST', '/securetoken.googleapis.com/v1/token?key=any', { grant_type => 'refresh_token', refresh_token => $eve->{refresh_token} }),
	'400 INVALID_REFRESH_TOKEN', 'and all sessions have ended');
stop_process($identity);

# Wrong settings.
foreach my $case ([ PORT => 'x' ], [ TOKEN_LIFETIME => '3601' ], [ TOKEN_LIFETIME => '0' ], [ FIREBASE_PROJECT_ID => 'Demo' ])
{
	my ($name, $value) = @$case;
	my $process = start_process('wrong', { $name => $value }, 'node', "$top/gateway/dev/identity.mjs");

	$process->{run}->finish;
	like($process->{run}->result . ' ' . slurp_file($process->{err}), qr/^1 identity: $name must be /, "$name=$value");
}

stop_process($gateway);
done_testing();
