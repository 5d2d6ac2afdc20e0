package MonitoringTest;

# Prometheus and postgres_exporter with the files of contrib/, in which only
# addresses and intervals are replaced, and what Prometheus finds.

use strict;
use warnings FATAL => 'all';

use Cwd qw(abs_path);
use Exporter 'import';
use File::Basename qw(dirname);
use GatewayTest;
use IO::Socket::INET;
use IPC::Run;
use JSON::PP qw(decode_json);
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(monitoring_role start_exporter start_prometheus found names rules
  metrics_of fires fired quiet);

my $top = dirname(dirname(dirname(abs_path(__FILE__))));

# The statements of docs/operations.md that make the role.
sub monitoring_role
{
	my ($sql) = slurp_file("$top/docs/operations.md") =~ /^-- Monitoring\n(.*?)^```/ms;

	return $sql // die 'docs/operations.md makes no role for monitoring';
}

# What Prometheus scrapes listens when it has started.
sub wait_for_port
{
	my ($process) = @_;

	wait_until("$process->{name} listens",
		sub { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $process->{port}) });
	$process->{instance} = "127.0.0.1:$process->{port}";
	return $process;
}

# Start postgres_exporter for a node.  Its caches would make a test wait.
sub start_exporter
{
	my ($node) = @_;
	my $folder = PostgreSQL::Test::Utils::tempdir;
	my ($host, $port, $own) = ($node->host, $node->port, free_port());

	append_to_file("$folder/queries.yml", slurp_file("$top/contrib/postgres_exporter.yml") =~ s/^  cache_seconds: \d+\n//gmr);
	my $process = start_process('exporter_' . $node->name,
		{ DATA_SOURCE_NAME => "host=$host port=$port user=monitoring dbname=postgres sslmode=disable" },
		'prometheus-postgres-exporter', "--web.listen-address=127.0.0.1:$own",
		"--extend.query-path=$folder/queries.yml", '--disable-settings-metrics', '--disable-default-metrics');
	$process->{port} = $own;
	return wait_for_port($process);
}

# Start Prometheus with the rules, for gateways and exporters at these ports.
sub start_prometheus
{
	my ($gateways, $exporters) = @_;
	my $folder = PostgreSQL::Test::Utils::tempdir;
	my $port = free_port();
	my $text = slurp_file("$top/contrib/prometheus.yml");
	my $targets = sub { join ', ', map { "'127.0.0.1:$_'" } @_ };

	$text =~ s/\b1[05]s$/1s/gm;
	$text =~ s/'127\.0\.0\.1:9464'/$targets->(@$gateways)/e or die;
	$text =~ s/'127\.0\.0\.1:9187'/$targets->(@$exporters)/e or die;
	append_to_file("$folder/prometheus.yml", $text);
	append_to_file("$folder/alerts.yml", slurp_file("$top/contrib/alerts.yml"));
	my $process = start_process('prometheus', {}, 'prometheus', "--config.file=$folder/prometheus.yml",
		"--storage.tsdb.path=$folder/data", "--web.listen-address=127.0.0.1:$port");
	$process->{port} = $port;
	wait_for_port($process);
	wait_until('Prometheus is ready', sub { slurp_file($process->{err}) =~ /Server is ready to receive web requests/ });
	return $process;
}

# What Prometheus answers at a path of its API.
sub ask_prometheus
{
	my ($prometheus, $path, @parameters) = @_;
	my ($stdout, $stderr);

	IPC::Run::run([ 'curl', '--silent', '--show-error', '--noproxy', '*', '--get',
		(map { ('--data-urlencode', $_) } @parameters), "http://127.0.0.1:$prometheus->{port}/api/v1/$path" ],
		'>', \$stdout, '2>', \$stderr)
	  or die $stderr;
	my $answer = decode_json($stdout);
	die "@parameters: $answer->{error}" if $answer->{status} ne 'success';
	return $answer->{data};
}

sub results { return @{ ask_prometheus($_[0], 'query', "query=$_[1]")->{result} } }

# How many series an expression finds now.
sub found
{
	return scalar results(@_);
}

# The names of all metrics there were.
sub names
{
	my ($prometheus) = @_;

	return @{ ask_prometheus($prometheus, 'label/__name__/values') };
}

# The expressions of the rules by their names.
my %rules;

sub rules
{
	my ($prometheus) = @_;

	foreach my $group (@{ ask_prometheus($prometheus, 'rules')->{groups} })
	{
		foreach my $rule (@{ $group->{rules} })
		{
			is(join(' ', sort keys %{ $rule->{annotations} }), 'action reason summary', "$rule->{name} says why, and what to do");
			$rules{ $rule->{name} } = $rule->{query};
		}
	}
	return %rules;
}

# The names of the metrics in an expression.
sub metrics_of
{
	my ($expression) = @_;

	$expression =~ s/\{[^}]*\}|"[^"]*"//g;
	return $expression =~ /\b(overten_\w+|pg_\w+|up)\b/g;
}

# A check: after something is done, the expression of a rule finds something.
my %fired;

sub fires
{
	my ($prometheus, $name, $why, $do) = @_;
	my $query = $rules{$name} // die "no rule $name";

	$do->() if $do;
	wait_until("$name fires: $why", sub { found($prometheus, $query) });
	$fired{$name} = 1;
	return pass("$name fires: $why");
}

sub fired { return $fired{ $_[0] } }

# A check: it finds nothing, or soon finds nothing after something is done.
sub quiet
{
	my ($prometheus, $name, $why, $do) = @_;
	my $query = $rules{$name} // die "no rule $name";

	$do->() if $do;
	wait_until("$name is quiet: $why", sub { !found($prometheus, $query) });
	return pass("$name is quiet: $why");
}

1;
