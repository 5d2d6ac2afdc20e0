
# What the tests of master keys share: nodes whose key file is outside of the data
# directory, keys for it, and what clients are told.

package MasterKeys;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use MIME::Base64;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(create_node_with_key write_file random_key set_key_file
  webhook_secret failure master_key_ids);

# Start a node whose key file is outside of the data directory.
sub create_node_with_key
{
	my ($name, %init) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir . "/$name.key";

	return (
		create_node($name, "overten_auth.master_key_file = '$file'", %init),
		$file);
}

# Make a file anew.
sub write_file
{
	my ($file, $content, $mode) = @_;

	unlink $file;
	append_to_file($file, $content);
	chmod $mode // 0600, $file or die "chmod: $!";
	return;
}

# A line of the file: a new key.
sub random_key
{
	open my $source, '<:raw', '/dev/urandom' or die "urandom: $!";
	read $source, my $key, 32;
	close $source;
	return encode_base64($key, '') . "\n";
}

# Name another file in a running server.
sub set_key_file
{
	my ($node, $file) = @_;

	$node->append_conf('postgresql.conf',
		"overten_auth.master_key_file = '$file'");
	$node->reload;
	$node->poll_query_until('postgres',
		'SHOW overten_auth.master_key_file', $file)
	  or die 'the setting was not reloaded';
	return;
}

# What verifying a key returns of its webhook secret, after whether it is accepted.
sub webhook_secret
{
	my ($where, $secret) = @_;

	return ask($where,
		"SELECT key_id IS NOT NULL, webhook_secret FROM overten_verify_key('$secret')"
	);
}

# Create an org that cannot be sealed; returns what the client is told.
sub failure
{
	my ($node, $database) = @_;
	my ($result, $stdout, $stderr) = $node->psql($database // 'postgres',
		"\\set VERBOSITY verbose\nSELECT overten_create_org('Refused')");

	return $stderr;
}

# The ids of the keys that are needed, and of those that are there.
sub master_key_ids
{
	my $where = shift;

	return ask($where, 'SELECT * FROM overten_auth.master_key_ids()');
}

1;
