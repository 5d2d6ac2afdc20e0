#!/usr/bin/perl
#
# http_client.pl URL TOKEN
#
# A client of the API: mints keys, uses them, revokes them and tries them again, one
# after the other, whatever fails meanwhile.  Prints what must not happen to stderr, and
# counts it as "wrong".  A line "check" on standard input has it try all keys whose
# revocation was answered, and print "ok" with its figures; "stop" ends it.

use strict;
use warnings FATAL => 'all';

use HTTP::Tiny;
use IO::Select;
use JSON::PP qw(decode_json);
use Time::HiRes qw(time usleep);

my ($url, $token) = @ARGV;
my $http = HTTP::Tiny->new(timeout => 10, keep_alive => 0);
my %count = map { $_ => 0 } qw(minted accepted revoked refused failed wrong longest_ms);
my $last_answer = time;
my @revoked;    # the secrets

$| = 1;

# Ask, and return the status and the body; one from 500 on, and 599 for no answer, is
# counted as a failure.
sub ask
{
	my ($method, $path, $credential, $content) = @_;
	my $answer = $http->request($method, "$url$path", { headers => {
			'Authorization' => "Bearer $credential", $content ? ('Content-Type' => 'application/json') : () },
		$content ? (content => $content) : () });

	if ($answer->{status} >= 500)
	{
		$count{failed}++;
		usleep(50_000);
	}
	else
	{
		my $gap = int 1000 * (time - $last_answer);

		$count{longest_ms} = $gap if $gap > $count{longest_ms};
		$last_answer = time;
	}
	return ($answer->{status}, $answer->{content});
}

sub wrong
{
	my ($what) = @_;

	print STDERR "http_client: WRONG: $what\n";
	$count{wrong}++;
	return;
}

# What a secret gets, once there is an answer.
sub answer_to
{
	my ($secret) = @_;

	foreach (1 .. 1200)
	{
		my ($status) = ask('GET', '/verify', $secret);

		return $status if $status < 500;
	}
	die "http_client: there is no answer any more\n";
}

sub live
{
	my ($org) = @_;
	my ($status, $content) = ask('POST', "/organizations/$org/api-keys", $token, '{"name": "http"}');

	return if $status >= 500;
	return wrong("minting is answered with $status") unless $status == 201;
	my $key = decode_json($content);
	$count{minted}++;
	$status = answer_to($key->{secret});
	return wrong("a new key is answered with $status") unless $status == 200;
	$count{accepted}++;
	($status) = ask('DELETE', "/organizations/$org/api-keys/$key->{key_id}", $token);
	return if $status >= 500;
	return wrong("revoking is answered with $status") unless $status == 204;
	$count{revoked}++;
	push @revoked, $key->{secret};
	foreach my $secret ($key->{secret}, $revoked[ rand @revoked ])
	{
		$status = answer_to($secret);
		return wrong("a revoked key is answered with $status") unless $status == 401;
		$count{refused}++;
	}
	return;
}

sub check
{
	$count{alive} = grep { answer_to($_) != 401 } @revoked;
	print 'ok ', join(' ', map { "$_=$count{$_}" } sort keys %count), "\n";
	$count{longest_ms} = 0;
	$last_answer = time;
	return;
}

my ($status, $content) = ask('POST', '/signup', $token, '{"org_name": "Http", "tier": "free", "key_name": "first"}');
die "http_client: signing up is answered with $status\n" unless $status == 201;
my $org = decode_json($content)->{org_id};
my $commands = IO::Select->new(\*STDIN);
while (1)
{
	live($org);
	next unless $commands->can_read(0.1);
	my $command = readline(STDIN) // 'stop';
	last if $command =~ /^stop/;
	check();
}
