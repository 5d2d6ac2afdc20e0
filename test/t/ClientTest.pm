
# Runs what docs/clients.md gives to copy: each block with a "file" in a folder of its
# own, as a program that is asked line by line (test/clients/ask.*).

package ClientTest;

use strict;
use warnings FATAL => 'all';

use Cwd qw(abs_path);
use DocumentTest;
use Exporter 'import';
use File::Basename qw(dirname);
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(documented create_client_node write_module start_client ask_client send_to answer_of end_client leaks_in);

my $top = dirname(dirname(dirname(abs_path(__FILE__))));
my @blocks = blocks_of("$top/docs/clients.md");

# The modules of the page: their texts, by the names of their files.
sub documented
{
	return map { $_->{file} => $_->{text} } grep { defined $_->{file} } @blocks;
}

# A server that logs all that it can, with the database app and the page's role.
sub create_client_node
{
	my ($name, $settings) = @_;
	my $node = create_node($name, <<"EOC");
listen_addresses = '127.0.0.1'
log_statement = all
log_min_duration_statement = 0
log_min_error_statement = debug5
log_error_verbosity = verbose
$settings
EOC
	$node->safe_psql('postgres', 'CREATE DATABASE app');
	$node->safe_psql('app', 'CREATE EXTENSION overten_auth CASCADE');
	$node->safe_psql('app', $_->{text}) foreach grep { $_->{language} eq 'sql' } @blocks;
	return $node;
}

# Write a module of the page into a folder, with other texts in place of some.  Returns
# its path.
sub write_module
{
	my ($folder, $file, %replace) = @_;
	my %documented = documented();
	my $text = $documented{$file} // die "no $file";

	foreach my $old (keys %replace)
	{
		$text =~ s/\Q$old\E/$replace{$old}/g or die "no \"$old\" in $file";
	}
	symlink "$top/test/clients/node_modules", "$folder/node_modules" unless -l "$folder/node_modules";
	append_to_file("$folder/$file", $text);
	return "$folder/$file";
}

# Start a program that answers lines.  It finds the server in its environment.
sub start_client
{
	my ($node, $name, @command) = @_;
	my $client = { name => $name, in => '', out => '', err => "$PostgreSQL::Test::Utils::log_path/$name.err" };
	local %ENV = $node->_get_env();

	delete $ENV{PGDATABASE};
	delete $ENV{PGUSER};
	$client->{timer} = IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default);
	$client->{run} = IPC::Run::start(\@command, '<', \$client->{in}, '>', \$client->{out}, '2>', $client->{err}, $client->{timer});
	return $client;
}

sub send_to
{
	my ($client, @words) = @_;

	s/([^\w.-])/sprintf '%%%02X', ord $1/ge foreach @words;
	$client->{timer}->start;
	$client->{out} = '';
	$client->{in} .= join(' ', @words) . "\n";
	$client->{run}->pump_nb;
	return;
}

sub answer_of
{
	my ($client) = @_;

	$client->{run}->pump until $client->{out} =~ /\n/ || !$client->{run}->pumpable;
	chomp(my $answer = $client->{out});
	return $answer || "$client->{name} has ended: " . slurp_file($client->{err});
}

# What a program answers to a line.
sub ask_client
{
	my ($client, @words) = @_;

	send_to($client, @words);
	return answer_of($client);
}

# End a program.  A server that was started meanwhile holds the other end of its stdin,
# so the program would wait for more.
sub end_client
{
	my ($client) = @_;

	$client->{run}->signal('TERM');
	$client->{run}->finish;
	return;
}

# How many of these secrets a text shows, in whole or by more than the prefix that
# is no secret.
sub leaks_in
{
	my ($text, @secrets) = @_;

	return scalar grep {
		index($text, substr $_, 0, 15) >= 0 || index($text, substr $_, 14, 14) >= 0
	} @secrets;
}

1;
