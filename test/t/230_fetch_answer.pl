# The reader of HTTP answers and the schedule of fetches, in a program of their
# own: no server can be made to say all this, or to let years pass.

use strict;
use warnings;

exec './test/unit/fetch_answer' or die "test/unit/key_answer: $!";
