
# Every fenced block of the documents, in order, on a throw-away server with one
# database for each page, as a reader would paste them.  What cannot be run says
# so in a comment before it, and is counted.  pg_regress reads no documents, and
# runs neither sh nor servers.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use DocumentTest;
use PostgreSQL::Test::Utils;
use Test::More;

# How many blocks are not run.  Each has a reason that holds for every machine
# that runs this.
my $not_run = 38;

my $top = "$FindBin::RealBin/../..";
my @files = map { "$top/$_" } 'README.md', 'SECURITY.md', 'CONTRIBUTING.md';
push @files, sort glob "$top/docs/*.md";
cmp_ok(scalar @files, '>=', 12, 'pages');

my @left_out;

foreach my $file (@files)
{
	my ($name) = $file =~ m{([^/]+)\.md$};
	my @blocks = grep { $_->{language} ne 'mermaid' } blocks_of($file);
	my ($page, $output);

	foreach my $block (@blocks)
	{
		my $where = "$name, line $block->{line}";

		if (defined $block->{not_run})
		{
			push @left_out, "$where: $block->{not_run}";
			undef $output;
		}
		elsif (defined $block->{file})
		{
			is($name, 'clients', "$where: 532 to 536 run this file");
		}
		elsif ($block->{language} eq 'text')
		{
			my ($shown, $real) = same_output($block->{text}, $output // 'There is no command before it.');

			is($real, $shown, "$where: the output is as shown");
			undef $output;
		}
		else
		{
			$page //= open_page($name, $file);
			(my $ran, $output, my $wrong) = run_block($page, $block);
			ok($ran, "$where: $block->{language} runs") or diag($wrong);
		}
	}
	close_page($page) if $page;
}

is(scalar @left_out, $not_run, 'blocks that are not run')
  or diag(join "\n", @left_out);

done_testing();
