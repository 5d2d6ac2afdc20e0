
# Shared by the TAP tests: an installed extension, orgs, keys, answers.
#
# "where" is a background psql session.  To use a new session, it is a node
# (whose database is postgres) or [ node, database ].

package OvertenTest;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

our @EXPORT = qw(ask create_node create_org mint verify is_accepted
  sqlstate_of refused flush_usage uses wait_until
  postmaster excluded_from_dumps);

# Start a node that has the given settings and the extension.  The harness would
# log all statements, and with them the secrets that tests write as literals.
sub create_node
{
	my ($name, $settings, %init) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(%init);
	$node->append_conf('postgresql.conf', "autovacuum = off\nlog_statement = none\n$settings");
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION overten_auth CASCADE');
	return $node;
}

# The output of SQL that must not fail.
sub ask
{
	my ($where, $sql) = @_;

	return $where->[0]->safe_psql($where->[1], $sql)
	  if ref $where eq 'ARRAY';
	return $where->safe_psql('postgres', $sql)
	  if $where->isa('PostgreSQL::Test::Cluster');
	return $where->query_safe($sql);
}

# Wait until a condition holds, which it must within the harness's time limit.
sub wait_until
{
	my ($what, $condition) = @_;
	my $limit = time + $PostgreSQL::Test::Utils::timeout_default;

	do
	{
		return if $condition->();
		usleep(10_000);
	} while (time < $limit);
	BAIL_OUT("waited in vain until $what");
}

# The id of a new org.
sub create_org
{
	my ($where, $name) = @_;

	return ask($where, "SELECT org_id FROM overten_create_org('$name')");
}

# The secret and the id of a new key of an org.
sub mint
{
	my ($where, $org) = @_;

	return split /\|/,
	  ask($where, "SELECT secret, key_id FROM overten_mint_key('$org')");
}

# What a verification returns of the key: its id, or '' if it is refused.
sub verify
{
	my ($where, $secret) = @_;

	return ask($where, "SELECT key_id FROM overten_verify_key('$secret')");
}

sub is_accepted
{
	my ($where, $secret) = @_;

	return verify($where, $secret) ne '';
}

# Have all that was counted written.
sub flush_usage
{
	my ($where) = @_;

	return ask($where, 'SELECT overten_flush_usage()');
}

# What the history holds of keys, over all hours and addresses, as "accepted"
# or "accepted|refused", one a line in the order of the keys.
sub uses
{
	my ($where, @keys) = @_;
	my $keys = join ',', @keys;

	return ask($where, <<"EOQ");
SELECT coalesce(sum(accepted), 0)
	|| CASE WHEN sum(refused) > 0 THEN '|' || sum(refused) ELSE '' END
FROM unnest('{$keys}'::text[]) WITH ORDINALITY k (key_id, n)
LEFT JOIN overten_auth.key_usage USING (key_id) GROUP BY n ORDER BY n
EOQ
}

# The SQLSTATE that SQL fails with in a session of its own, '' if it succeeds.
sub sqlstate_of
{
	my ($where, $sql, %params) = @_;
	my ($node, $database) =
	  ref $where eq 'ARRAY' ? @$where : ($where, 'postgres');
	my ($result, $stdout, $stderr) =
	  $node->psql($database, "\\set VERBOSITY sqlstate\n$sql", %params);

	return '' if $result == 0;
	return $stderr =~ /(?:ERROR|FATAL):  (\w{5})$/m ? $1 : $stderr;
}

# A check: SQL fails with a SQLSTATE for a role.
sub refused
{
	my ($where, $role, $sql, $sqlstate, $name) = @_;
	my ($node, $database) = ref $where eq 'ARRAY' ? @$where : ($where, 'postgres');
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is( sqlstate_of($where, $sql, connstr => $node->connstr($database) . " user=$role"),
		$sqlstate, $name);
	return;
}

# The id of a node's postmaster.  Dies if there is none.
sub postmaster
{
	my ($node) = @_;

	return (slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/)[0];
}

# How many bytes of the memory of a process a core dump does not have (Linux).
sub excluded_from_dumps
{
	my ($pid) = @_;
	my ($size, $excluded) = (0, 0);

	for (split /\n/, slurp_file("/proc/$pid/smaps"))
	{
		$size = $1 if /^Size:\s+(\d+) kB/;
		$excluded += $size if /^VmFlags:.* dd\b/;
	}
	return $excluded * 1024;
}

1;
