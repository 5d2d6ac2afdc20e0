# targets.mk: what make can do beside building and installing.
#
# make            build            make deps    install Debian packages
# make help       show this        make test    every suite, throw-away cluster
# make install    install          make demo    the main job, likewise
# make lint       check the style  make serve   an API to try out, likewise
# make format     mend the layout  make bench   measure
# make fuzz       fuzz the parsers make race    ten minutes of trials
# make compare-firebase            beside firebase-admin
# make dashboard  build the page that the gateway serves
# make nginx-module               build nginx's module (Debian's nginx-dev)
# make model      check the caches' protocol in every state (some minutes)
# make mutations  plant mistakes, one by one, and see tests fail (two hours)
# make bench-peers                 measure beside what people use today
#
# make test-matrix     every suite on PostgreSQL 17 and 18    (as root)
# make test-cassert    every suite on a server with assertions
# make test-valgrind   the suites in SQL, and workers, under valgrind
# make test-ubsan      every suite with undefined behaviour trapped
# make test-clients    docs/clients.md, in Java and Go, too
# make test-nginx-asan nginx's module with the sanitizers of addresses and of
#                      undefined behavior
# make test-faults     faults under load: full disks, kill -9, a clock that
#                      jumps, no memory, failover    (as root)
# make test-cluster    failovers of a Patroni cluster, with contrib/ as it is
# make test-package    build, install and remove the Debian packages, for
#                      PostgreSQL 15, 17 and 18 (as root)
# make test-containers build the images of contrib/containers with podman, and
#                      try them by podman-compose (as root)
# make deb             the Debian package
# make dist            the archives of a release

# TAP files wait more than they work.  PGXS sets this to nothing.
PROVE_FLAGS = -j2

test/race/race: $(wildcard test/race/*.c test/race/*.h)
	$(CC) $(CFLAGS) -I$(shell $(PG_CONFIG) --includedir) -o $@ $(filter %.c,$^) -L$(shell $(PG_CONFIG) --libdir) -lpq -lpthread

test/faults/load: $(addprefix test/faults/,load.c journal.c clients.c check.c load.h) test/race/chance.c test/race/chance.h
	$(CC) $(CFLAGS) -I$(shell $(PG_CONFIG) --includedir) -o $@ $(filter %.c,$^) -L$(shell $(PG_CONFIG) --libdir) -lpq -lpthread

# Preloaded into programs that are not a server, too.  What they have takes the place
# of the C library's; PGXS of later releases would hide it.
test/modules/clock_shift.so test/modules/test_clock.so: %.so: %.c
	$(CC) $(CFLAGS) -fvisibility=default -fPIC -shared -o $@ $< -ldl

test/modules/%.so: test/modules/%.c
	$(CC) $(CFLAGS) $(CPPFLAGS) -fPIC -shared -o $@ $<

# What needs no server can be tried without one.
test/unit/fetch_answer: test/unit/fetch_answer.c $(addprefix src/signing_keys/, fetch_answer.c fetch_schedule.c fetch.h)
	$(CC) $(CFLAGS) $(CPPFLAGS) -Isrc -o $@ $(filter %.c,$^)

# Left out: what the server's own macros and idioms would be blamed for.
TIDY_CHECKS = -*,clang-analyzer-*,bugprone-*,-bugprone-easily-swappable-parameters,-bugprone-reserved-identifier,-bugprone-not-null-terminated-result,-bugprone-implicit-widening-of-multiplication-result,-bugprone-narrowing-conversions,-bugprone-branch-clone,-clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling

PACKAGES = test/install-packages
DEPS = $(MAKE) --no-print-directory deps

# What make deps installs packages for, as test/install-packages names the jobs.
JOBS = test spin node lint

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

NGINX_MODULE = nginx/ngx_http_overten_auth_module.so

$(NGINX_MODULE): nginx/config nginx/build $(wildcard nginx/*.[ch])
	nginx/build

DASHBOARD_PACKAGES = gateway/dashboard/node_modules/.package-lock.json

$(DASHBOARD_PACKAGES): gateway/dashboard/package-lock.json
	cd gateway/dashboard && npm ci --ignore-scripts --silent

DASHBOARD = gateway/dashboard/built/index.html

$(DASHBOARD): $(DASHBOARD_PACKAGES) gateway/dashboard/build.mjs $(wildcard gateway/dashboard/source/* gateway/dashboard/source/*/*)
	cd gateway/dashboard && node build.mjs

BROWSER = test/browser/node_modules/.package-lock.json

$(BROWSER): test/browser/package-lock.json
	cd test/browser && npm ci --ignore-scripts --silent

CLIENT_PACKAGES = test/clients/node_modules/.package-lock.json

$(CLIENT_PACKAGES): test/clients/package-lock.json
	cd test/clients && npm ci --ignore-scripts --no-audit --no-fund --silent

PEERS = test/bench/peers/node_modules/.package-lock.json

# Without what reaches Google's other services.
$(PEERS): test/bench/peers/package-lock.json
	cd test/bench/peers && npm ci --omit=optional --ignore-scripts --no-audit --no-fund --silent

.PHONY: dashboard run-dashboard nginx-module run-nginx-module
.PHONY: fuzz run-fuzz compare-firebase run-compare-firebase
.PHONY: bench-peers run-bench-peers
.PHONY: test-matrix test-cassert test-valgrind test-ubsan test-package deb dist
.PHONY: test-faults run-test-faults test-clients run-test-clients test-containers
.PHONY: test-nginx-asan run-test-nginx-asan
.PHONY: test-cluster run-test-cluster
.PHONY: run-test-matrix run-test-cassert run-test-valgrind run-test-ubsan
.PHONY: help deps model mutations test demo serve bench race lint format run-test run-demo run-serve run-bench run-race run-lint run-format run-elsewhere

help:
	@sed -n '/^# make/,/^$$/s/^# //p' $(HERE)test/targets.mk
deps:
	@$(PACKAGES) $(JOBS)
test:
	@$(DEPS) JOBS='test spin'
	test/model/run --small
	$(MAKE) --no-print-directory run-test
model:
	@$(DEPS) JOBS='spin'
	test/model/run
mutations:
	@$(DEPS) JOBS='test'
	test/mutations/try
demo:
	@$(DEPS) JOBS='node'
	$(MAKE) --no-print-directory run-demo
serve:
	@$(DEPS) JOBS='node'
	$(MAKE) --no-print-directory run-serve
dashboard:
	@$(DEPS) JOBS='node'
	$(MAKE) --no-print-directory run-dashboard
nginx-module:
	@$(DEPS) JOBS='nginx'
	$(MAKE) --no-print-directory run-nginx-module
bench:
	@$(DEPS) JOBS='bench'
	$(MAKE) --no-print-directory run-bench
bench-peers:
	@$(DEPS) JOBS='bench'
	$(MAKE) --no-print-directory run-bench-peers
race:
	@$(DEPS) JOBS=''
	$(MAKE) --no-print-directory run-race
fuzz:
	@$(DEPS) JOBS='fuzz'
	$(MAKE) --no-print-directory run-fuzz
compare-firebase:
	@$(DEPS) JOBS='node'
	$(MAKE) --no-print-directory run-compare-firebase
test-matrix:
	@$(DEPS) JOBS='chroot node'
	$(MAKE) --no-print-directory run-test-matrix
test-cassert:
	@$(DEPS) JOBS='test source'
	$(MAKE) --no-print-directory run-test-cassert
test-valgrind:
	@$(DEPS) JOBS='test source'
	$(MAKE) --no-print-directory run-test-valgrind
test-ubsan:
	@$(DEPS) JOBS='test'
	$(MAKE) --no-print-directory run-test-ubsan
test-clients:
	@$(DEPS) JOBS='clients'
	$(MAKE) --no-print-directory run-test-clients
test-nginx-asan:
	@$(DEPS) JOBS='test'
	$(MAKE) --no-print-directory run-test-nginx-asan
test-faults:
	@$(DEPS) JOBS='test'
	$(MAKE) --no-print-directory run-test-faults
test-cluster:
	@$(DEPS) JOBS='cluster'
	$(MAKE) --no-print-directory run-test-cluster
test-package:
	@$(DEPS) JOBS='chroot'
	test/package/run
test-containers:
	@$(DEPS) JOBS='containers'
	test/containers/run
deb:
	@$(DEPS) JOBS='deb'
	pg_buildext updatecontrol
	dpkg-buildpackage -b -us -uc
lint:
	@$(DEPS) JOBS='lint'
	$(MAKE) --no-print-directory run-lint
format:
	@$(DEPS) JOBS='lint'
	$(MAKE) --no-print-directory run-format

run-test: all test/race/race test/modules/admissions.so test/modules/clock_shift.so test/modules/flush_pauses.so test/modules/lost_answers.so test/modules/relcache_faults.so test/modules/test_clock.so test/unit/fetch_answer $(GATEWAY) $(WEBHOOKS) $(DASHBOARD) $(BROWSER) $(CLIENT_PACKAGES) $(NGINX_MODULE)
	$(TEMP_INSTALL) $(MAKE) installcheck EXTRA_REGRESS_OPTS='$(TEMP_INSTANCE)'

run-test-clients: all $(GATEWAY) $(DASHBOARD_PACKAGES) $(CLIENT_PACKAGES)
	OVERTEN_CLIENTS=all $(TEMP_INSTALL) $(MAKE) installcheck REGRESS= ISOLATION= PROVE_TESTS='test/t/53*.pl' EXTRA_REGRESS_OPTS='$(TEMP_INSTANCE)'

run-test-matrix: $(GATEWAY) $(WEBHOOKS) $(DASHBOARD) $(BROWSER) $(CLIENT_PACKAGES)
	test/matrix

# What can be asked in the time when every use of a catalog reads it anew, and
# that empties the extension's caches, too.  Making the extension alone takes half
# a minute then, so the specs, which make it for each permutation, are left out.
# So are keys, which tests that a cache is used; http, key_text, limits, no_row, orgs and
# webhooks, which take six minutes and more each; and what has not been timed.
DISCARDING = REGRESS='privileges firebase leaks quotas rotation key_details' ISOLATION= TAP_TESTS= \
	TEMP_INSTANCE='--temp-instance=tmp_instance --temp-config=test/discard_caches.conf'

# These build copies of this tree, whose own objects are for PG_CONFIG's server.
run-test-cassert: $(GATEWAY) $(WEBHOOKS) $(DASHBOARD) $(BROWSER) $(CLIENT_PACKAGES)
	PG_CONFIG=$$(test/build-postgres) && export PG_CONFIG && \
	test/in-copy $(MAKE) run-test WITH=test/with-clean-logs && \
	test/in-copy $(MAKE) run-test WITH=test/with-clean-logs $(DISCARDING)

run-test-valgrind: $(GATEWAY) $(WEBHOOKS) $(DASHBOARD) $(BROWSER) $(CLIENT_PACKAGES)
	PG_CONFIG=$$(test/build-postgres) && export PG_CONFIG && \
	test/in-copy $(MAKE) run-test WITH=test/with-valgrind \
		PROVE_TESTS=test/valgrind/workers.pl

run-test-ubsan: $(GATEWAY) $(WEBHOOKS) $(DASHBOARD) $(BROWSER) $(CLIENT_PACKAGES)
	test/in-copy $(MAKE) run-test WITH=test/with-clean-logs COPT='-fsanitize=undefined -fno-sanitize-recover=undefined'

# nginx itself is Debian's, into which the sanitizers' library is loaded first.
run-test-nginx-asan: $(GATEWAY)
	test/in-copy sh -euc '$(MAKE) -s all; \
		ASAN_OPTIONS=detect_leaks=0 NGINX_LDOPT="-fsanitize=address,undefined" \
			NGINX_COPT="-g -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined" nginx/build; \
		export OVERTEN_NGINX_PRELOAD=$$(gcc -print-file-name=libasan.so); \
		$(TEMP_INSTALL) $(MAKE) installcheck REGRESS= ISOLATION= \
			PROVE_TESTS="test/t/360_front_ends.pl test/t/361_api_key_header.pl test/t/365_nginx_module.pl test/t/366_nginx_requests.pl"'

run-test-faults: all $(NGINX_MODULE) test/faults/load test/modules/clock_shift.so test/modules/admissions.so test/modules/lost_answers.so test/modules/test_clock.so
	PG_CONFIG='$(PG_CONFIG)' test/faults/run

run-test-cluster: all test/faults/load $(GATEWAY)
	@$(TEMP_INSTALL) test/cluster/failovers.pl

run-demo: all $(GATEWAY)
	@SERVER_CONF=test/demo.conf $(TEMP_INSTALL) test/with-server test/with-gateway test/demo

# Ctrl-C or SIGTERM is how this ends: the last of these commands ends, and then the
# others clean up in their turn.
run-serve: all $(GATEWAY) $(DASHBOARD)
	@exec env SERVER_CONF=test/demo.conf $(TEMP_INSTALL) test/with-server test/with-gateway test/serve

run-dashboard: $(DASHBOARD)

run-nginx-module: $(NGINX_MODULE)

run-bench: all $(GATEWAY) $(PEERS) $(NGINX_MODULE)
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

run-format: all $(NGINX_MODULE)
	test/indent src/*.[ch] src/*/*.[ch] nginx/*.[ch]

# The archives are named for the release, whose number is in META.json.
DIST = $(EXTENSION)-$(shell sed -n 's/^  "version": "\(.*\)",$$/\1/p' META.json)

dist:
	test/check-release
	@git diff --quiet HEAD || { echo "make dist: commit first" >&2; exit 1; }
	git archive --prefix=$(DIST)/ --output=$(DIST).tar.gz HEAD
	git archive --prefix=$(DIST)/ --output=$(DIST).zip HEAD

# From an empty folder it can be built and installed, too.
run-elsewhere:
	mkdir elsewhere
	$(MAKE) -s -C elsewhere -f ../Makefile VPATH=.. COPT=-O0 DESTDIR='$(CURDIR)/root' all install >/dev/null
	ls root$$($(PG_CONFIG) --sharedir)/extension/$(EXTENSION)--*.sql >/dev/null

# In the tree of nginx's sources.
NGINX_INCLUDES = $(addprefix -I,src/core src/event src/event/modules src/os/unix src/http src/http/modules src/http/v2 objs \
	$(CURDIR)/nginx $(shell $(PG_CONFIG) --includedir))

run-lint: all $(NGINX_MODULE)
	test/check-release
	test/mutations/try --check
	test/check-links
	test/check-service
	test/in-copy $(MAKE) --no-print-directory run-elsewhere
	test/indent --check src/*.[ch] src/*/*.[ch] nginx/*.[ch]
	test/check-rooms
	cppcheck --quiet --error-exitcode=1 --enable=warning,performance,portability --inline-suppr -Isrc src
	clang-tidy --quiet --warnings-as-errors='*' --checks='$(TIDY_CHECKS)' src/*.c src/*/*.c -- $(CPPFLAGS)
	cppcheck --quiet --error-exitcode=1 --enable=warning,performance,portability --inline-suppr -Inginx nginx
	nginx/build clang-tidy --quiet --warnings-as-errors='*' --checks='$(TIDY_CHECKS)' $(abspath $(wildcard nginx/*.c)) -- $(NGINX_INCLUDES)
