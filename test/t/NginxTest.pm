
# What the tests of nginx's module share: a node with keys of many orgs, clients that
# check whose org they get, and the module's sessions.

package NginxTest;

use strict;
use warnings FATAL => 'all';

use Cwd qw(abs_path);
use Exporter 'import';
use File::Basename qw(dirname);
use GatewayTest;
use IO::Socket::INET;
use IPC::Run;
use JSON::PP qw(encode_json);
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(create_module_node keys_of key_file unknown_key begin_load wait_for_clients end_load outcome
  module_sessions left_of master_of daemonize_nginx check_log start_unready_server);

my $clients = dirname(dirname(abs_path(__FILE__))) . '/http/nginx_load.mjs';
my $dir = PostgreSQL::Test::Utils::tempdir;

# Start a node that nginx's role may ask.
sub create_module_node
{
	my ($name, $settings) = @_;
	my $node = create_node($name, <<"EOC");
shared_preload_libraries = 'overten_auth'
overten_auth.databases = 'postgres'
overten_auth.signing_keys_command = ''
listen_addresses = '127.0.0.1'
@{[ $settings // '' ]}
EOC

	ask($node, <<'EOQ');
CREATE ROLE overten_nginx LOGIN;
GRANT EXECUTE ON FUNCTION overten_authorize_request(text, json) TO overten_nginx;
EOQ
	return $node;
}

# So many keys, each of an org of its own.
sub keys_of
{
	my ($where, $count) = @_;
	my $rows = ask($where, <<"EOQ");
CREATE TEMP TABLE made AS SELECT o.org_id FROM generate_series(1, $count) i, LATERAL overten_create_org('Org ' || i) o;
SELECT k.secret, m.org_id FROM made m, LATERAL overten_mint_key(m.org_id) k;
EOQ

	return map { my ($secret, $org) = split /\|/; { secret => $secret, org => $org } } split /\n/, $rows;
}

sub unknown_key { return { secret => 'sk_live_00000000000000000000000K3vO8' }; }

# A file with keys for the clients.
sub key_file
{
	my ($name, @keys) = @_;

	append_to_file("$dir/$name", encode_json(\@keys));
	return "$dir/$name";
}

# Begin requests of clients, and find out what has become of them.
sub begin_load
{
	my ($port, @how) = @_;
	my %load;

	$load{run} = IPC::Run::start([ 'node', $clients, $port, @how ], '>', \$load{out}, '2>', \$load{err});
	return \%load;
}

# Wait until so many clients have connected to a port of nginx, and have asked.  On a busy
# machine it takes the program long to start.
sub wait_for_clients
{
	my ($port, $count) = @_;
	my $connected = sprintf '[0-9A-F]{8}:%04X [0-9A-F]{8}:[0-9A-F]{4} 01', $port;

	wait_until("$count clients have connected", sub { (() = slurp_file('/proc/net/tcp') =~ /: $connected /g) >= $count });
	select undef, undef, undef, 0.5;
}

sub end_load
{
	my ($load) = @_;

	$load->{run}->finish;
	chomp $load->{out};
	diag($load->{err}) if $load->{err};
	return { map { split / / } split /, /, $load->{out} };
}

# Right answers, refused, wrong and cut off.
sub outcome
{
	my ($counts) = @_;

	return join ' ', @{$counts}{qw(right refused wrong cut)};
}

sub module_sessions
{
	my ($node) = @_;

	return split /\n/, ask($node, "SELECT pid FROM pg_stat_activity WHERE usename = 'overten_nginx'");
}

# What an answer says that a limit leaves.
sub left_of
{
	my ($answer) = @_;

	return ($answer->{headers}{ratelimit}[0] // '') =~ /;r=(\d+)/ ? $1 : 'none';
}

# Start what says, as a server that is starting up, that nobody can log in now, whereupon
# libpq goes on to the next host: its socket has then been in use for a while, and
# another gets its number.  Returns its process, with its port.
sub start_unready_server
{
	my ($name) = @_;
	my $port = free_port();
	my $process = start_process($name, {}, 'perl', '-MIO::Socket::INET', '-e', <<'EOP', $port);
$SIG{PIPE} = 'IGNORE';
my $listener = IO::Socket::INET->new(Listen => 50, LocalAddr => '127.0.0.1', LocalPort => $ARGV[0], ReuseAddr => 1) or die "$!";
my $text = "SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0";
while (my $client = $listener->accept)
{
	sysread $client, my $startup, 1000;
	syswrite $client, 'E' . pack('N', 4 + length $text) . $text;
	close $client;
}
EOP

	wait_until('it listens', sub { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) });
	$process->{port} = $port;
	return $process;
}

# A check: neither a secret nor a crash is in the log.
sub check_log
{
	my ($nginx) = @_;
	my @bad = grep { /sk_live_\w{5}|exited on signal|\[alert\]|Sanitizer|runtime error/ } split /\n/, slurp_file("$nginx->{folder}/error.log");
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is($bad[0] // '', '', "$nginx->{name}: no secret in the log, and no crash");
	return;
}

# The process id of a nginx's master, or 0 before it has written that, which is later
# than when it listens.
sub master_of
{
	my ($nginx) = @_;
	my $file = "$nginx->{folder}/nginx.pid";

	return -s $file ? 0 + slurp_file($file) : 0;
}

# Start a nginx that has been stopped again, as it runs in production: it can then
# be told to run another binary.  Returns a function that says which process is its
# master.
my @daemons;

sub daemonize_nginx
{
	my ($nginx) = @_;
	my $folder = $nginx->{folder};
	my ($conf) = glob "$folder/nginx.conf";
	my ($program) = grep { -f && -x } map { "$_/nginx" } split(/:/, $ENV{PATH}), '/usr/sbin';
	my $master = sub { return master_of($nginx) };

	push @daemons, $master;
	local %ENV = (%ENV, nginx_environment());
	PostgreSQL::Test::Utils::system_or_bail($program, '-p', $folder, '-c', $conf, '-e', "$folder/error.log");
	wait_until('nginx runs', sub { $master->() });
	return $master;
}

END
{
	my $status = $?;
	foreach my $master (@daemons)
	{
		my $pid = $master->();
		kill QUIT => $pid if $pid;
	}
	$? = $status;
}

1;
