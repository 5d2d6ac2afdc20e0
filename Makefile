# Makefile for overten_auth
#
# make            build            make test    every suite, throw-away cluster
# make install    install          make demo    the main job, likewise
# make lint       check the style  make serve   an API to try out, likewise
# make format     mend the layout  make bench   measure
# make fuzz       fuzz the parsers make race    ten minutes of trials
# make compare-firebase            beside firebase-admin
# make model      check the caches' protocol in every state (some minutes)
# make bench-peers                 measure beside what people use today
#
# make test-matrix     every suite on PostgreSQL 17 and 18    (as root)
# make test-cassert    every suite on a server with assertions
# make test-valgrind   the suites in SQL, and workers, under valgrind
# make test-ubsan      every suite with undefined behaviour trapped
# make test-faults     faults under load: full disks, kill -9, a clock that
#                      jumps, no memory, failover    (as root)
# make test-package    build, install and remove the Debian package (as root)
# make deb             the Debian package
# make dist            the archives of a release

EXTENSION = overten_auth
MODULE_big = overten_auth
PGFILEDESC = "overten_auth - API keys and Firebase ID tokens"

# The directories of src/, each using only those above it (src/README.md).
TEXT_OBJS = $(addprefix src/text/, \
	base64url.o client_addr_text.o encoding.o json_string.o rfc3339.o \
	strict_json.o text_rules.o)
SERVER_OBJS = $(addprefix src/server/, \
	arguments.o audit.o clock.o digest.o pgcrypto.o problem.o random.o \
	row_type.o secrecy.o single_row.o statement.o)
DATABASES_OBJS = $(addprefix src/databases/, \
	databases.o worker_request.o worker_session.o)
LOOKUP_OBJS = $(addprefix src/lookup/, \
	cache.o invalidation.o key_cache.o shared_cache.o shared_clock.o \
	store.o tables.o)
SEALING_OBJS = $(addprefix src/sealing/, \
	master_key_file.o master_keys.o new_master_key.o sealing.o)
USAGE_OBJS = $(addprefix src/usage/, \
	client_addr.o event_counts.o flush_request.o http_clients.o recorder.o \
	table_recorder.o unflushed_uses.o usage_cleaning.o usage_flush.o \
	usage_lock.o usage_rows.o use_arrays.o use_batches.o use_counters.o)
ORGS_OBJS = $(addprefix src/orgs/, \
	orgs.o)
WEBHOOKS_OBJS = $(addprefix src/webhooks/, \
	reseal.o webhook_secret.o webhook_signature.o)
KEYS_OBJS = $(addprefix src/keys/, \
	identity.o import.o key_anomalies.o key_history.o key_list.o key_text.o \
	keys.o leaks.o verify.o)
MEMBERS_OBJS = $(addprefix src/members/, \
	members.o signup.o)
SIGNING_KEYS_OBJS = $(addprefix src/signing_keys/, \
	fetch.o fetch_answer.o fetch_command.o fetch_request.o fetch_schedule.o \
	fetch_state.o fetch_worker.o key_document.o key_flaws.o key_ring.o \
	signing_keys.o)
TOKENS_OBJS = $(addprefix src/tokens/, \
	claims.o firebase_token.o jwt_library.o token_decoder.o token_reader.o \
	token_rules.o)
HTTP_OBJS = $(addprefix src/http/, \
	endpoints.o http_client_addr.o http_request.o postgrest.o query_string.o \
	request_body.o request_headers.o response_headers.o response_json.o \
	usage_endpoint.o)
WORKERS_OBJS = $(addprefix src/workers/, \
	database_jobs.o database_names.o database_worker.o launcher.o)
ROOT_OBJS = $(addprefix src/, \
	check.o finish_script.o overten_auth.o settings.o status.o)

OBJS = $(TEXT_OBJS) $(SERVER_OBJS) $(DATABASES_OBJS) $(LOOKUP_OBJS) \
	$(SEALING_OBJS) $(USAGE_OBJS) $(ORGS_OBJS) $(WEBHOOKS_OBJS) \
	$(KEYS_OBJS) $(MEMBERS_OBJS) $(SIGNING_KEYS_OBJS) $(TOKENS_OBJS) \
	$(HTTP_OBJS) $(WORKERS_OBJS) $(ROOT_OBJS)

DATA = $(wildcard sql/$(EXTENSION)--*.sql)

PG_CPPFLAGS = -I$(srcdir)/src
SHLIB_LINK = -lcrypto -ldl

# Test input is in test/; pg_regress finds the expected output of both suites
# in expected/, because it looks in the output directory first.
REGRESS = key_text keys names no_row webhooks usage privileges closing roles check http firebase identity leaks import half_done
REGRESS_OPTS = --inputdir=test --load-extension=pgcrypto
ISOLATION = revocation minting leak_response members
ISOLATION_OPTS = --inputdir=test --outputdir=. --load-extension=pgcrypto
TAP_TESTS = 1
PROVE_TESTS = test/t/*.pl

EXTRA_CLEAN = test/race/race test/faults/load test/faults/clock_shift.so test/modules/flush_pauses.so test/modules/relcache_faults.so test/unit/fetch_answer

# Called once a statement, these functions gain nothing from being inlined by
# the JIT compiler.
override with_llvm = no

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)

# Without the server's build files there is nothing to build, but the targets
# below install them; they all go on in a second make.
ifneq ($(wildcard $(PGXS)),)
include $(PGXS)
endif

# In a build directory of its own the compiler needs the directories of src/.
ifdef VPATH
$(shell mkdir -p $(sort $(dir $(OBJS))))
endif

# TAP files wait more than they work.  PGXS sets this to nothing.
PROVE_FLAGS = -j2

# PGXS as packaged does not track header dependencies.
$(OBJS): $(wildcard $(srcdir)/src/*.h $(srcdir)/src/*/*.h)

test/race/race: $(wildcard test/race/*.c test/race/*.h)
	$(CC) $(CFLAGS) -I$(shell $(PG_CONFIG) --includedir) -o $@ $(filter %.c,$^) -L$(shell $(PG_CONFIG) --libdir) -lpq -lpthread

test/faults/load: $(addprefix test/faults/,load.c journal.c clients.c check.c load.h) test/race/chance.c test/race/chance.h
	$(CC) $(CFLAGS) -I$(shell $(PG_CONFIG) --includedir) -o $@ $(filter %.c,$^) -L$(shell $(PG_CONFIG) --libdir) -lpq -lpthread

test/faults/clock_shift.so: test/faults/clock_shift.c
	$(CC) $(CFLAGS) -fPIC -shared -o $@ $< -ldl

test/modules/%.so: test/modules/%.c
	$(CC) $(CFLAGS) $(CPPFLAGS) -fPIC -shared -o $@ $<

# What needs no server can be tried without one.
test/unit/fetch_answer: test/unit/fetch_answer.c $(addprefix src/signing_keys/, fetch_answer.c fetch_schedule.c fetch.h)
	$(CC) $(CFLAGS) $(CPPFLAGS) -Isrc -o $@ $(filter %.c,$^)

# Left out: what the server's own macros and idioms would be blamed for.
TIDY_CHECKS = -*,clang-analyzer-*,bugprone-*,-bugprone-easily-swappable-parameters,-bugprone-reserved-identifier,-bugprone-not-null-terminated-result,-bugprone-implicit-widening-of-multiplication-result,-bugprone-narrowing-conversions,-bugprone-branch-clone,-clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling

PACKAGES = test/install-packages
WITH = test/with-temp-install
TEMP_INSTALL = PG_CONFIG='$(PG_CONFIG)' $(WITH)
TEMP_INSTANCE = --temp-instance=tmp_instance --temp-config=test/postgresql.conf

# npm writes the second file when it has installed what the first one says.
GATEWAY = gateway/node_modules/.package-lock.json

$(GATEWAY): gateway/package-lock.json
	cd gateway && npm ci --silent

WEBHOOKS = test/webhooks/node_modules/.package-lock.json

$(WEBHOOKS): test/webhooks/package-lock.json
	cd test/webhooks && npm ci --ignore-scripts --no-audit --no-fund --silent

PEERS = test/bench/peers/node_modules/.package-lock.json

# Without what reaches Google's other services.
$(PEERS): test/bench/peers/package-lock.json
	cd test/bench/peers && npm ci --omit=optional --ignore-scripts --no-audit --no-fund --silent

.PHONY: fuzz run-fuzz compare-firebase run-compare-firebase
.PHONY: bench-peers run-bench-peers
.PHONY: test-matrix test-cassert test-valgrind test-ubsan test-package deb dist
.PHONY: test-faults run-test-faults
.PHONY: run-test-matrix run-test-cassert run-test-valgrind run-test-ubsan
.PHONY: model test demo serve bench race lint format run-test run-demo run-serve run-bench run-race run-lint run-format

test:
	$(PACKAGES) test spin
	test/model/run --small
	$(MAKE) --no-print-directory run-test
model:
	$(PACKAGES) spin
	test/model/run
demo:
	$(PACKAGES) node
	$(MAKE) --no-print-directory run-demo
serve:
	$(PACKAGES) node
	$(MAKE) --no-print-directory run-serve
bench:
	$(PACKAGES) bench
	$(MAKE) --no-print-directory run-bench
bench-peers:
	$(PACKAGES) bench
	$(MAKE) --no-print-directory run-bench-peers
race:
	$(PACKAGES)
	$(MAKE) --no-print-directory run-race
fuzz:
	$(PACKAGES) fuzz
	$(MAKE) --no-print-directory run-fuzz
compare-firebase:
	$(PACKAGES) node
	$(MAKE) --no-print-directory run-compare-firebase
test-matrix:
	$(PACKAGES) chroot node
	$(MAKE) --no-print-directory run-test-matrix
test-cassert:
	$(PACKAGES) test source
	$(MAKE) --no-print-directory run-test-cassert
test-valgrind:
	$(PACKAGES) test source
	$(MAKE) --no-print-directory run-test-valgrind
test-ubsan:
	$(PACKAGES) test
	$(MAKE) --no-print-directory run-test-ubsan
test-faults:
	$(PACKAGES) test
	$(MAKE) --no-print-directory run-test-faults
test-package:
	$(PACKAGES) chroot
	test/package/run
deb:
	$(PACKAGES) deb
	dpkg-buildpackage -b -us -uc
lint:
	$(PACKAGES) lint
	$(MAKE) --no-print-directory run-lint
format:
	$(PACKAGES) lint
	$(MAKE) --no-print-directory run-format

run-test: all test/race/race test/modules/flush_pauses.so test/modules/relcache_faults.so test/unit/fetch_answer $(GATEWAY) $(WEBHOOKS)
	$(TEMP_INSTALL) $(MAKE) installcheck EXTRA_REGRESS_OPTS='$(TEMP_INSTANCE)'

run-test-matrix: $(GATEWAY) $(WEBHOOKS)
	test/matrix

# What can be asked in the time when every use of a catalog reads it anew, and
# that empties the extension's caches, too.  Left out: keys, which tests that a
# cache is used; http, key_text, no_row and webhooks, which take eight minutes
# and more each; and those that have not been timed: usage, roles, identity,
# import, half_done.
DISCARDING = REGRESS='privileges firebase leaks' TAP_TESTS= \
	TEMP_INSTANCE='--temp-instance=tmp_instance --temp-config=test/discard_caches.conf'

# These build copies of this tree, whose own objects are for PG_CONFIG's server.
run-test-cassert: $(GATEWAY) $(WEBHOOKS)
	PG_CONFIG=$$(test/build-postgres) && export PG_CONFIG && \
	test/in-copy $(MAKE) run-test WITH=test/with-clean-logs && \
	test/in-copy $(MAKE) run-test WITH=test/with-clean-logs $(DISCARDING)

run-test-valgrind: $(GATEWAY) $(WEBHOOKS)
	PG_CONFIG=$$(test/build-postgres) && export PG_CONFIG && \
	test/in-copy $(MAKE) run-test WITH=test/with-valgrind \
		PROVE_TESTS=test/valgrind/workers.pl

run-test-ubsan: $(GATEWAY) $(WEBHOOKS)
	test/in-copy $(MAKE) run-test WITH=test/with-clean-logs COPT='-fsanitize=undefined -fno-sanitize-recover=undefined'

run-test-faults: all test/faults/load test/faults/clock_shift.so
	PG_CONFIG='$(PG_CONFIG)' test/faults/run

run-demo: all $(GATEWAY)
	@SERVER_CONF=test/demo.conf $(TEMP_INSTALL) test/with-server test/with-gateway test/demo

# Ctrl-C or SIGTERM is how this ends: the last of these commands ends, and then the
# others clean up in their turn.
run-serve: all $(GATEWAY)
	@exec env SERVER_CONF=test/demo.conf $(TEMP_INSTALL) test/with-server test/with-gateway test/serve

run-bench: all $(GATEWAY) $(PEERS)
	@PG_CONFIG='$(PG_CONFIG)' test/bench/all

run-bench-peers: all $(PEERS)
	@PG_CONFIG='$(PG_CONFIG)' PARTS='firebase peers' test/bench/all

run-race: all test/race/race
	@SERVER_CONF=test/race/postgresql.conf $(TEMP_INSTALL) test/with-server test/race/run $(RACE_OPTS)

FUZZ_SECONDS = 60

run-fuzz:
	@PG_CONFIG='$(PG_CONFIG)' test/fuzz/run $(FUZZ_SECONDS)

test/firebase/node_modules: test/firebase/package-lock.json
	cd test/firebase && npm ci --ignore-scripts --no-audit --no-fund
	touch $@

run-compare-firebase: all test/firebase/node_modules
	@$(TEMP_INSTALL) test/firebase/compare-with-firebase-admin

run-format: all
	test/indent src/*.[ch] src/*/*.[ch]

# The archives are named for the release, whose number is in META.json.
DIST = $(EXTENSION)-$(shell sed -n 's/^  "version": "\(.*\)",$$/\1/p' META.json)

dist:
	test/check-release
	@git diff --quiet HEAD || { echo "make dist: commit first" >&2; exit 1; }
	git archive --prefix=$(DIST)/ --output=$(DIST).tar.gz HEAD
	git archive --prefix=$(DIST)/ --output=$(DIST).zip HEAD

run-lint: all
	test/check-release
	test/indent --check src/*.[ch] src/*/*.[ch]
	test/check-rooms
	cppcheck --quiet --error-exitcode=1 --enable=warning,performance,portability --inline-suppr -Isrc src
	clang-tidy --quiet --warnings-as-errors='*' --checks='$(TIDY_CHECKS)' src/*.c src/*/*.c -- $(CPPFLAGS)
