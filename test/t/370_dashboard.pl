
# The dashboard: what the gateway serves, and when; and people who use it in a real
# browser, from signing up to revoking a key.  pg_regress has neither HTTP nor a browser.

use strict;
use warnings FATAL => 'all';

use Compress::Zlib ();
use File::Copy qw(copy);
use FindBin;
use lib $FindBin::RealBin;
use DashboardTest;
use GatewayTest;
use JSON::PP qw(decode_json);
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/../..";
my $built = "$top/gateway/dashboard/built";
my ($node, $identity) = create_dashboard_node('dashboard');

# What the gateway serves.
my $plain = start_gateway($node, 'without_dashboard', FIREBASE_AUTH_EMULATOR_URL => $identity->{url});
is(summary(request($plain->{url}, 'GET', $_)), '404 not_found', "without FIREBASE_API_KEY there is no $_")
  foreach '/dashboard/', '/dashboard', '/dashboard/index.html';
stop_process($plain);

my $production = start_gateway($node, 'production', FIREBASE_API_KEY => 'AIza-_0', CORS_ORIGINS => 'https://app.example.com');
my $gateway = start_dashboard($node, $identity, 'dashboard_gateway');
unlike(slurp_file($production->{err}), qr/DEVELOPMENT/, 'in production nothing is said of development');
like(slurp_file($gateway->{err}), qr/FOR DEVELOPMENT ONLY/, 'with another service than Firebase it is');

sub policy
{
	my ($answer) = @_;

	return join '|', @{ $answer->{headers}{'content-security-policy'} // [] };
}

my $connect = "connect-src 'self' https://identitytoolkit.googleapis.com https://securetoken.googleapis.com";
my $expected = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; $connect; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
my $page = request($production->{url}, 'GET', '/dashboard/?x=1');
is($page->{status}, 200, 'the page');
is(policy($page), $expected, 'its policy');
is(policy(request($gateway->{url}, 'GET', '/dashboard/')), $expected =~ s/(?<=securetoken\.googleapis\.com)/ $identity->{url}/r, 'its policy in development');
my %headers = ('cache-control' => 'no-store', 'content-type' => 'text/html; charset=utf-8', 'x-content-type-options' => 'nosniff',
	'cross-origin-opener-policy' => 'same-origin', 'cross-origin-resource-policy' => 'same-origin', 'referrer-policy' => 'no-referrer',
	vary => 'Accept-Encoding');
is(join('|', @{ $page->{headers}{$_} // [] }), $headers{$_}, "its $_: $headers{$_}") foreach sort keys %headers;
like($page->{body}, qr/content="\{&#34;apiKey&#34;:&#34;AIza-_0&#34;\}"/, 'it has its settings');
is(summary(request($production->{url}, 'HEAD', '/dashboard/')), '200', 'HEAD');
my $moved = request($production->{url}, 'GET', '/dashboard');
is("$moved->{status} @{ $moved->{headers}{location} }", '308 dashboard/', 'without the slash');

# All that the browser loads.
my $size = length Compress::Zlib::memGzip($page->{body});
foreach my $name ($page->{body} =~ /(?:href|src)="([^":]+)"/g)
{
	my $file = request($production->{url}, 'GET', "/dashboard/$name", ['Accept-Encoding: br, gzip;q=0.5']);

	like($name, qr/^dashboard-[0-9a-f]{16}\.(?:js|css)$/, "$name: the name has a digest");
	is("@{ $file->{headers}{'cache-control'} }", 'public, max-age=31536000, immutable', "$name: it may be kept");
	is("@{ $file->{headers}{'content-encoding'} }", 'gzip', "$name: compressed");
	# memGunzip empties what it is given.
	$size += length $file->{body};
	is(Compress::Zlib::memGunzip($file->{body}), slurp_file("$built/$name"), "$name: its content");
	foreach my $none (undef, 'gzip;q=0', 'gzip; q=0.0', 'br')
	{
		$file = request($production->{url}, 'GET', "/dashboard/$name", [ defined $none ? "Accept-Encoding: $none" : () ]);
		is($file->{headers}{'content-encoding'}, undef, "$name: not compressed for " . ($none // 'who does not ask'));
		is($file->{body}, slurp_file("$built/$name"), "$name: its content, too");
	}
}
cmp_ok($size, '<', 65 * 1024, "all is small: $size bytes");
my ($licenses) = slurp_file(glob("$built/dashboard-*.js")) =~ /^\/\* .* (licenses-\w+\.txt) \*\/$/m;
my $text = request($production->{url}, 'GET', "/dashboard/$licenses")->{body};

# All packages that what we import leads to, with their licenses; the file and the page of
# the documentation list them.  Of tslib, which only has helpers, the script has nothing.
my $lock = decode_json(slurp_file("$top/gateway/dashboard/package-lock.json"))->{packages};
my @imported = grep { $_ ne 'esbuild' } keys %{ $lock->{''}{devDependencies} };
my %shipped;
while (defined(my $name = shift @imported))
{
	my $package = $lock->{"node_modules/$name"} or die "$name is not in package-lock.json";

	next if $shipped{$name};
	$shipped{$name} = "$package->{version}, $package->{license}";
	push @imported, keys %{ $package->{dependencies} // {} };
}
delete $shipped{tslib};
is_deeply({ $text =~ /^((?:\@[a-z]+\/)?[a-z-]+) ([0-9][0-9.]*, [A-Z][\w.-]+)(?=,|$)/mg }, \%shipped, 'the license of each package that is in the script');
like($text, qr/^ *$_/m, "the text: $_") foreach 'Apache License', 'ISC License', 'The MIT License \(MIT\)';
my ($table) = slurp_file("$top/docs/dashboard.md") =~ /^\| package \| license \|\n\|.*\n((?:\|.*\n)+)/m;
my %documented;
foreach my $line (split /\n/, $table)
{
	my ($names, $license) = $line =~ /^\| (.*) \| (.*) \|$/;

	$documented{$_} = $license foreach split /, /, $names;
}
is_deeply(\%documented, { map { $_ => $shipped{$_} =~ s/.*, //r } keys %shipped }, 'the documentation lists them, too');
foreach my $path ('/dashboard/index.html', '/dashboard/x.js', '/dashboard/../dashboard/', '/dashboard/%2e%2e/server.mjs', '/dashboard//', '/Dashboard/')
{
	is(summary(request($production->{url}, 'GET', $path)), '404 not_found', "there is no $path");
}
is(summary(request($production->{url}, 'POST', '/dashboard/')), '404 not_found', 'nothing can be posted there');
stop_process($production);

# Signing in with Google: its script, and a frame of one domain.
my $google = start_gateway($node, 'google', FIREBASE_API_KEY => 'AIza-_0', FIREBASE_AUTH_DOMAIN => 'login.acme-docs.example');
my $with_google = request($google->{url}, 'GET', '/dashboard/');
is(policy($with_google), $expected =~ s/script-src 'self'/script-src 'self' https:\/\/apis.google.com/r =~ s/base-uri/frame-src https:\/\/login.acme-docs.example; base-uri/r,
	'the policy with FIREBASE_AUTH_DOMAIN');
is("@{ $with_google->{headers}{'cross-origin-opener-policy'} }", 'same-origin-allow-popups', 'and popups are possible');
like($with_google->{body}, qr/&#34;authDomain&#34;:&#34;login\.acme-docs\.example&#34;/, 'the page knows the domain');
stop_process($google);
my $popup = start_gateway($node, 'popup', FIREBASE_API_KEY => 'AIza-_0', FIREBASE_AUTH_DOMAIN => 'login.acme-docs.example', FIREBASE_AUTH_EMULATOR_URL => $identity->{url});
like(policy(request($popup->{url}, 'GET', '/dashboard/')), qr/; frame-src \Q$identity->{url}\E; /, 'in development the frame is of the other service');
run_browser($node, $identity, $popup, 'google');
stop_process($popup);

# What is wrong at the start.
foreach my $case ([ FIREBASE_API_KEY => 'a"b', 'FIREBASE_API_KEY must be ' ],
	(map { [ FIREBASE_AUTH_DOMAIN => $_, 'FIREBASE_AUTH_DOMAIN must be a domain, ' ] }
		'x', '*', '*.example.com', 'https://a.example.com', 'a.example.com/', 'a.example.com:443', 'a.example.com; script-src *', 'a.example.com b.example.com', 'A.example.com', '.example.com', '127.0.0.1', "a.example.com\nb"),
	[ FIREBASE_AUTH_DOMAIN => 'a.example.com', 'FIREBASE_AUTH_DOMAIN is for the dashboard, ' ],
	[ FIREBASE_AUTH_EMULATOR_URL => "http://127.0.0.1:9099; script-src *", 'FIREBASE_AUTH_EMULATOR_URL must be an origin, ' ],
	[ FIREBASE_AUTH_EMULATOR_URL => 'http://127.0.0.1:9099/', 'FIREBASE_AUTH_EMULATOR_URL must be an origin, ' ])
{
	my ($name, $value, $message) = @$case;
	my $process = start_process('wrong', { $name => $value }, 'node', "$top/gateway/server.mjs");

	$process->{run}->finish;
	like($process->{run}->result . ' ' . slurp_file($process->{err}), qr/^1 gateway: \Q$message\E/, "$name=$value");
}
my $elsewhere = PostgreSQL::Test::Utils::tempdir;
copy($_, $elsewhere) or die "copy: $!" foreach glob "$top/gateway/*.mjs";
symlink "$top/gateway/node_modules", "$elsewhere/node_modules" or die "symlink: $!";
my $unbuilt = start_process('unbuilt', { FIREBASE_API_KEY => 'x' }, 'node', "$elsewhere/server.mjs");
$unbuilt->{run}->finish;
like($unbuilt->{run}->result . ' ' . slurp_file($unbuilt->{err}), qr/^1 gateway: .* the dashboard is not built; run /, 'a dashboard that is not built');

# People.
run_browser($node, $identity, $gateway, 'dashboard');

# The gateway's log has nothing of it.
unlike(slurp_file($gateway->{out}), qr/sk_live_|Bearer|eyJ/, 'the access log has no credential');
like(slurp_file($gateway->{out}), qr/"path":"\/dashboard\/"/, 'but that the page was loaded');

stop_process($_) foreach $gateway, $identity;
done_testing();
