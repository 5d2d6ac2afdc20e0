
# The clients of a cluster: sessions that mint, revoke and verify through HAProxy's port
# for the leader, others that verify through the one for the standbys (both load.c), and
# a client of the API through the gateways (http_client.pl); and the service that signs
# the latter's ID token.

package Clients;

use strict;
use warnings FATAL => 'all';

use FindBin;
use HTTP::Tiny;
use IPC::Open2;
use JSON::PP qw(decode_json encode_json);
use LoadProgram;
use Processes;

my $project = 'demonstration';

# %how: cluster, dir, top (of the tree), seed, bound (of the standbys, in ms).
sub new
{
	my ($class, %how) = @_;
	my $log = "$how{dir}/identity.log";
	my $self = bless {%how}, $class;

	$self->{identity} = start_program('identity', $log, [ 'node', "$how{top}/gateway/dev/identity.mjs" ],
		env => { PORT => 0, FIREBASE_PROJECT_ID => $project });
	$self->{identity_url} = wait_for('the identity service listens', 20,
		sub { return slurp_file($log) =~ /listening on ([0-9.]+:[0-9]+)/ ? "http://$1" : undef });
	return $self;
}

# Where the servers fetch the signing keys.
sub keys_url
{
	my ($self) = @_;

	return "$self->{identity_url}/service_accounts/v1/jwk/securetoken\@system.gserviceaccount.com";
}

# Start the gateways, the client of the API, and the program that makes the load.
sub start
{
	my ($self) = @_;
	my $cluster = $self->{cluster};
	my $api = "http://127.0.0.1:$cluster->{api_port}";
	my $wrong = $cluster->log_of('wrong');

	$cluster->sql('primary', "ALTER DATABASE app SET overten_auth.firebase_project_id = '$project'");
	$cluster->start_gateways("$self->{top}/gateway/server.mjs");
	wait_for('the gateways are ready', 30, sub { return HTTP::Tiny->new->get("$api/readyz")->{success} });
	my $answer = HTTP::Tiny->new->post("$self->{identity_url}/identitytoolkit.googleapis.com/v1/accounts:signUp?key=$project",
		{ content => encode_json({ email => 'ada@example.com', password => 'first-programmer' }) });
	my $token = decode_json($answer->{content})->{idToken};
	wait_for('a worker has fetched the signing keys', 30, sub {
		return $cluster->sql('primary', 'SELECT count(*) FROM overten_auth.signing_keys') > 0;
	});
	my $http = $self->{http} = {};
	$http->{pid} = open2($http->{out}, $http->{in}, 'sh', '-c', 'exec perl "$0" "$1/api/v1" "$2" 2>>"$3"',
		"$FindBin::RealBin/http_client.pl", $api, $token, $wrong);
	$cluster->sql('primary', LOAD_TABLES);
	$self->{load} = open_load($self->{seed}, $wrong);
	$self->tell('connect ' . $cluster->place('primary'));
	return;
}

# Give the load program, or the client of the API, a command; its answer as a hash.
sub tell
{
	my ($self, $command) = @_;

	return instruct($self->{load}, $command);
}

sub tell_http
{
	my ($self, $command) = @_;

	return instruct($self->{http}, $command);
}

sub start_load
{
	my ($self) = @_;

	$self->tell('start lasting');
	$self->tell("standby $self->{bound} " . $self->{cluster}->place('replica'));
	return;
}

# The time, as the load program has it.
sub stamp
{
	my ($self) = @_;

	return $self->tell('stamp')->{stamp};
}

sub seconds_since
{
	my ($self, $since) = @_;

	return sprintf '%.1f', ($self->stamp - $since) / 1e9;
}

# Wait until something that was sent after a time could be minted, revoked and verified:
# after how many seconds each was.
sub first_answers
{
	my ($self, $since) = @_;
	my $first;

	$self->tell("await_first $since");
	wait_for('clients can mint, revoke and verify', 120, sub {
		$first = $self->tell('first');
		return !grep { !defined $first->{$_} } 'mint', 'revoke', 'verify';
	});
	return map { $_ => sprintf '%.1f', $first->{$_} / 1000 } 'mint', 'revoke', 'verify';
}

sub end_all
{
	my ($self) = @_;

	end_program($_) foreach grep { defined } $self->{identity}, map { $_ && $_->{pid} } @$self{ 'load', 'http' };
	return;
}

1;
