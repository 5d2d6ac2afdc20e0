
# Three servers under Patroni, etcd, HAProxy and two gateways, with the configuration
# of contrib/ as it is.  The servers have addresses of their own in 127.0.0.0/8.  What
# the documentation leaves to the operator (names, addresses, passwords, ports) comes
# from the environment of the programs, and for each server one file more says what
# differs because three servers share this machine, and that it has no watchdog.

package PatroniCluster;

use strict;
use warnings FATAL => 'all';

use HTTP::Tiny;
use JSON::PP qw(decode_json);
use Processes;

my @names = ('db1', 'db2', 'db3');

# %how: dir (an empty folder), contrib, bindir (of PostgreSQL).
sub new
{
	my ($class, %how) = @_;
	my $self = bless {%how}, $class;
	my @addresses = map { "127.0.0.$_" } 11 .. 13;

	@$self{qw(postgres_port patroni_port etcd_port peer_port)} = free_ports(4, @addresses);
	@$self{qw(primary_port replica_port api_port)} = free_ports(3, '127.0.0.1');
	($self->{gateway_port}) = free_ports(1, map { "127.0.0.$_" } 21, 22);
	foreach my $i (0 .. 2)
	{
		my $dir = "$self->{dir}/$names[$i]";

		$self->{nodes}{ $names[$i] } = { name => $names[$i], address => $addresses[$i], dir => $dir, data => "$dir/data" };
		mkdir $_ or die "$_: $!\n" foreach $dir, "$dir/config", "$dir/secret";
	}
	$self->{password}{$_} = join '', map { sprintf '%02x', int rand 256 } 1 .. 16
	  foreach qw(superuser replication rewind restapi gateway);
	$self->make_programs;
	return $self;
}

sub nodes
{
	my ($self) = @_;

	return map { $self->{nodes}{$_} } @names;
}

# The folder that the documentation has the operator make: links to PostgreSQL's
# programs, with our pg_rewind.
sub make_programs
{
	my ($self) = @_;
	my $programs = $self->{programs} = "$self->{dir}/programs";

	mkdir $programs or die "$programs: $!\n";
	foreach my $program (glob "$self->{bindir}/*")
	{
		symlink $program, "$programs/" . ($program =~ s{.*/}{}r) or die "$program: $!\n";
	}
	unlink "$programs/pg_rewind" or die "pg_rewind: $!\n";
	symlink "$self->{contrib}/$_", "$programs/$_" or die "$_: $!\n" foreach 'pg_rewind', 'save_audit_log';
	return;
}

sub log_of
{
	my ($self, $name) = @_;

	return "$self->{dir}/$name.log";
}

# Programs

sub start_etcd
{
	my ($self) = @_;
	my $members = join ',', map { "$_->{name}=http://$_->{address}:$self->{peer_port}" } $self->nodes;

	foreach my $node ($self->nodes)
	{
		my ($client, $peer) = map { "http://$node->{address}:$self->{$_}" } 'etcd_port', 'peer_port';

		$self->{pid}{"etcd $node->{name}"} = start_program("etcd $node->{name}", $self->log_of("etcd_$node->{name}"),
			[ 'etcd', '--name', $node->{name}, '--data-dir', "$node->{dir}/etcd",
				'--listen-client-urls', $client, '--advertise-client-urls', $client,
				'--listen-peer-urls', $peer, '--initial-advertise-peer-urls', $peer,
				'--initial-cluster', $members, '--initial-cluster-state', 'new', '--unsafe-no-fsync' ]);
	}
	wait_for('etcd answers', 30, sub {
		my $answer = HTTP::Tiny->new(timeout => 2)->get("http://127.0.0.11:$self->{etcd_port}/health");
		return $answer->{content} =~ /"true"/;
	});
	return;
}

# What the environment of Patroni on a server says, as contrib/patroni_env.conf.
sub environment_of
{
	my ($self, $node) = @_;
	my ($postgres, $patroni) = map { "$node->{address}:$self->{$_}" } 'postgres_port', 'patroni_port';

	return {
		PATRONI_NAME => $node->{name},
		PATRONI_POSTGRESQL_LISTEN => $postgres, PATRONI_POSTGRESQL_CONNECT_ADDRESS => $postgres,
		PATRONI_RESTAPI_LISTEN => $patroni, PATRONI_RESTAPI_CONNECT_ADDRESS => $patroni,
		PATRONI_ETCD3_HOSTS => join(',', map { "$_->{address}:$self->{etcd_port}" } $self->nodes),
		PATRONI_POSTGRESQL_DATA_DIR => $node->{data}, PATRONI_POSTGRESQL_BIN_DIR => $self->{programs},
		PATRONI_POSTGRESQL_PGPASS => "$node->{dir}/pgpass",
		PATRONI_SUPERUSER_USERNAME => 'postgres', PATRONI_SUPERUSER_PASSWORD => $self->{password}{superuser},
		PATRONI_REPLICATION_USERNAME => 'replicator', PATRONI_REPLICATION_PASSWORD => $self->{password}{replication},
		PATRONI_REWIND_USERNAME => 'rewinder', PATRONI_REWIND_PASSWORD => $self->{password}{rewind},
		PATRONI_RESTAPI_USERNAME => 'patroni', PATRONI_RESTAPI_PASSWORD => $self->{password}{restapi},
		OVERTEN_SAVED => "$node->{dir}/saved",
	};
}

# Write the files that Patroni on a server reads, the second one after ours.  %more are
# settings of PostgreSQL, beside those of earlier calls.
sub configure
{
	my ($self, $node, %more) = @_;
	my $all = $node->{settings} = { %{ $node->{settings} // {} }, %more };
	my $settings = join '', map { "    $_: '$all->{$_}'\n" } sort keys %$all;
	my $shipped = "$node->{dir}/config/1_patroni.yml";

	symlink "$self->{contrib}/patroni.yml", $shipped or die "$shipped: $!\n" unless -l $shipped;
	spit_file("$node->{dir}/config/2_this_test.yml", <<"EOF");
watchdog:
  mode: 'off'
postgresql:
  parameters:
    unix_socket_directories: '$node->{dir}'
    overten_auth.master_key_file: '$node->{dir}/secret/master.key'
$settings
EOF
	return;
}

sub start_patroni
{
	my ($self, $node) = @_;

	$self->{pid}{ $node->{name} } = start_program("patroni $node->{name}", $self->log_of($node->{name}),
		[ 'patroni', "$node->{dir}/config" ], env => $self->environment_of($node));
	return;
}

# What Patroni says of its configuration, '' if all is well.
sub invalid_configuration
{
	my ($self, $node) = @_;
	my $env = $self->environment_of($node);

	local @ENV{ keys %$env } = values %$env;
	my ($said, $status) = output_of($self->log_of('validate'), 'patroni', '--validate-config', "$node->{dir}/config");
	return $status == 0 ? $said : "exit status $status: $said";
}

# Change settings of PostgreSQL on a server.
sub reload
{
	my ($self, $node, %more) = @_;

	$self->configure($node, %more);
	kill 'HUP', $self->{pid}{ $node->{name} };
	return;
}

sub start_haproxy
{
	my ($self) = @_;
	my %env = (LISTEN => '127.0.0.1', GATEWAY1 => '127.0.0.21', GATEWAY2 => '127.0.0.22',
		map({ (uc($_) => $self->{$_}) } qw(postgres_port patroni_port gateway_port primary_port replica_port api_port)),
		map({ (uc($_->{name}) => $_->{address}) } $self->nodes));

	$self->{pid}{haproxy} = start_program('haproxy', $self->log_of('haproxy'),
		[ 'haproxy', '-db', '-f', "$self->{contrib}/haproxy.cfg" ], env => \%env);
	return;
}

# A gateway for each of HAProxy's two, which log in through HAProxy.
sub start_gateways
{
	my ($self, $program) = @_;

	foreach my $number (1, 2)
	{
		$self->{pid}{"gateway$number"} = start_program("gateway$number", $self->log_of("gateway$number"),
			[ 'node', $program ], env => {
				HOST => "127.0.0.2$number", PORT => $self->{gateway_port}, AUTHORIZE_LISTEN => 'off',
				PGHOST => '127.0.0.1', PGPORT => $self->{primary_port}, PGDATABASE => 'app',
				PGUSER => 'overten_gateway', PGPASSWORD => $self->{password}{gateway}, ACCESS_LOG => 'off' });
	}
	return;
}

# Faults

sub postmaster
{
	my ($self, $node) = @_;
	my ($pid) = (eval { slurp_file("$node->{data}/postmaster.pid") } // '') =~ /^(\d+)/;

	return unless defined $pid && is_running($pid);
	my $command = eval { slurp_file("/proc/$pid/cmdline") } // '';
	return index($command, $node->{data}) >= 0 ? $pid : undef;
}

# The processes of a server: of PostgreSQL, and also of Patroni unless left out.
sub processes_of
{
	my ($self, $node, %how) = @_;

	return family(grep { defined } scalar $self->postmaster($node),
		$how{postgres_only} ? undef : $self->{pid}{ $node->{name} });
}

# Kill a server as a crash does.
sub crash
{
	my ($self, $node, %how) = @_;
	my @pids = $self->processes_of($node, %how);

	signal_all('KILL', @pids);
	wait_for('the processes are gone', 10, sub { return !grep { is_running($_) } @pids });
	return;
}

# End everything, whatever state it is in.  Servers stop at once, because nothing of
# them is needed any more, but they remove their shared memory.
sub end_all
{
	my ($self) = @_;

	foreach my $node ($self->nodes)
	{
		my $pid = $self->{pid}{ $node->{name} } // next;

		next unless is_running($pid);
		signal_all('KILL', $pid);
		wait_for('Patroni is gone', 10, sub { return !is_running($pid) });
	}
	my @servers = grep { defined } map { scalar $self->postmaster($_) } $self->nodes;
	signal_all('CONT', family(@servers));
	signal_all('QUIT', @servers);
	end_program($self->{pid}{$_}) foreach grep { !$self->{nodes}{$_} } sort keys %{ $self->{pid} };
	eval { wait_for('the servers are gone', 20, sub { return !grep { is_running($_) } @servers }); 1 }
	  or signal_all('KILL', family(@servers));
	return;
}

# Questions

sub connstr
{
	my ($self, $port, $address) = @_;

	return sprintf 'host=%s port=%d dbname=app user=postgres password=%s connect_timeout=3',
	  $address // '127.0.0.1', $port, $self->{password}{superuser};
}

# Where psql connects to: a node, or "primary" or "replica" of HAProxy.
sub place
{
	my ($self, $where) = @_;

	return ref $where ? $self->connstr($self->{postgres_port}, $where->{address}) : $self->connstr($self->{"${where}_port"});
}

# Run SQL: what it returns, and the exit status of psql.
sub try_sql
{
	my ($self, $where, $sql, $database) = @_;

	return output_of($self->log_of('psql'), 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-v', 'VERBOSITY=sqlstate', '-d',
		$self->place($where) . ($database ? " dbname=$database" : ''), '-c', $sql);
}

# The same if it must not fail.
sub sql
{
	my ($self, $where, $sql, $database) = @_;
	my ($output, $status) = $self->try_sql($where, $sql, $database);

	die "failed: $sql\n" . (split /\n/, slurp_file($self->log_of('psql')))[-1] . "\n" if $status != 0;
	return $output;
}

# The members that run, as Patroni sees them: name => role ("leader", "sync_standby",
# "replica").
sub roles
{
	my ($self) = @_;

	foreach my $node ($self->nodes)
	{
		my $pid = $self->{pid}{ $node->{name} };

		next unless defined $pid && is_running($pid);
		my $answer = HTTP::Tiny->new(timeout => 2)->get("http://$node->{address}:$self->{patroni_port}/cluster");
		next unless $answer->{success};
		return map { $_->{name} => $_->{role} } grep { $_->{state} eq 'running' } @{ decode_json($answer->{content})->{members} };
	}
	return;
}

# The leader, if there is one that writes, and it is not the given one.
sub leader
{
	my ($self, $but) = @_;
	my %roles = $self->roles;
	my ($name) = grep { $roles{$_} eq 'leader' } keys %roles;

	return unless defined $name && !($but && $but->{name} eq $name);
	my ($recovery, $status) = $self->try_sql($self->{nodes}{$name}, 'SELECT pg_is_in_recovery()', 'postgres');
	return $status == 0 && $recovery eq 'f' ? $self->{nodes}{$name} : undef;
}

# Wait until there are a leader, a synchronous standby, and so many standbys that
# stream from it.
sub wait_complete
{
	my ($self, $standbys, $seconds) = @_;

	return wait_for("there are $standbys standbys", $seconds, sub {
		my %roles = $self->roles;
		return unless grep { $_ eq 'sync_standby' } values %roles;
		my $leader = $self->leader or return;
		my ($streaming, $status) = $self->try_sql($leader,
			q{SELECT count(*), bool_or(sync_state = 'sync') FROM pg_stat_replication WHERE state = 'streaming'}, 'postgres');
		return $status == 0 && $streaming eq "$standbys|t" ? $leader : undef;
	});
}

1;
