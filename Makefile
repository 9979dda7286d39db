# Installs what cargo builds: `make`, then `make install`, as root for the usual places. docs/install.md
# says the rest.
#
# PREFIX and the directories below it can be set, by these names or as GNU's (prefix, libdir, ...), and
# DESTDIR is put before all of them. To uninstall, set the same. Cargo's own variables hold too:
# CARGO_TARGET_DIR, CARGO_BUILD_TARGET.

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
# What the ABI is called: 0.1 of 0.1.0, see src/cdylib/build.rs.
ABI := $(basename $(VERSION))

prefix ?= /usr/local
PREFIX ?= $(prefix)
BINDIR ?= $(or $(bindir),$(PREFIX)/bin)
INCLUDEDIR ?= $(or $(includedir),$(PREFIX)/include)
LIBDIR ?= $(or $(libdir),$(PREFIX)/lib)
MANDIR ?= $(or $(mandir),$(PREFIX)/share/man)
DOCDIR ?= $(or $(docdir),$(PREFIX)/share/doc/audit-logger)
PKGCONFIGDIR ?= $(LIBDIR)/pkgconfig
CMAKEDIR ?= $(LIBDIR)/cmake/audit_logger

CARGO ?= cargo
INSTALL ?= install
export CARGO_TARGET_DIR ?= $(CURDIR)/target
BUILT := $(CARGO_TARGET_DIR)/$(CARGO_BUILD_TARGET)/release
# What is made of it for installing.
MADE := $(BUILT)/install
STATIC := $(MADE)/libaudit_logger.a
SHARED := libaudit_logger.so.$(VERSION)
CMAKE := audit_logger-config.cmake audit_logger-config-version.cmake
PAGES := $(notdir $(wildcard man/*.1))
# They go with what is linked in.
LICENCES := LICENSE-APACHE LICENSE-MIT THIRD_PARTY

# The way up to PREFIX from a directory below it, so that what is installed can be moved; from another
# directory, PREFIX itself.
empty :=
parts = $(subst /, ,$(patsubst $(PREFIX)/%,%,$(1)))
up = $(if $(filter $(PREFIX)/%,$(1)),$(subst $(empty) ,/,$(patsubst %,..,$(parts))),$(PREFIX))
# Fills in a file of packaging/: (1) is the file, (2) the prefix, (3) what paths below that begin with.
fill = @sed -e 's|@version@|$(VERSION)|' -e 's|@abi@|$(ABI)|' -e 's|@prefix@|$(2)|' \
	-e 's|@libdir@|$(patsubst $(PREFIX)/%,$(3)%,$(LIBDIR))|' \
	-e 's|@includedir@|$(patsubst $(PREFIX)/%,$(3)%,$(INCLUDEDIR))|' packaging/$(1).in >$(MADE)/$(1)

.PHONY: all library tool docs install install-library install-tool uninstall bindings deb

all: $(STATIC) tool

library:
	$(CARGO) build --release --locked --package audit_logger_cdylib

tool:
	$(CARGO) build --release --locked --features cli --bin audit-logger

# The header as HTML, into docs/api.
docs:
	doxygen docs/Doxyfile

$(STATIC): library
	mkdir -p $(@D)
	sh packaging/prelink.sh $(BUILT)/libaudit_logger.a $@

install: install-library install-tool

# What programs and packages of other languages are built from.
install-library: $(STATIC)
	$(INSTALL) -d $(addprefix $(DESTDIR),$(INCLUDEDIR) $(LIBDIR) $(PKGCONFIGDIR) $(CMAKEDIR) $(DOCDIR))
	$(INSTALL) -m 644 include/audit_logger.h bindings/cpp/audit_logger.hpp $(DESTDIR)$(INCLUDEDIR)
	$(INSTALL) -m 755 $(BUILT)/libaudit_logger.so $(DESTDIR)$(LIBDIR)/$(SHARED)
	ln -sf $(SHARED) $(DESTDIR)$(LIBDIR)/libaudit_logger.so.$(ABI)
	ln -sf libaudit_logger.so.$(ABI) $(DESTDIR)$(LIBDIR)/libaudit_logger.so
	$(INSTALL) -m 644 $(STATIC) $(DESTDIR)$(LIBDIR)
	$(call fill,audit_logger.pc,$(patsubst ..%,$${pcfiledir}/..%,$(call up,$(PKGCONFIGDIR))),$${prefix}/)
	$(INSTALL) -m 644 $(MADE)/audit_logger.pc $(DESTDIR)$(PKGCONFIGDIR)
	$(call fill,audit_logger-config.cmake,$(call up,$(CMAKEDIR)))
	$(call fill,audit_logger-config-version.cmake)
	$(INSTALL) -m 644 $(addprefix $(MADE)/,$(CMAKE)) $(DESTDIR)$(CMAKEDIR)
	$(INSTALL) -m 644 $(LICENCES) $(DESTDIR)$(DOCDIR)

install-tool: tool
	$(INSTALL) -d $(addprefix $(DESTDIR),$(BINDIR) $(MANDIR)/man1)
	$(INSTALL) -m 755 $(BUILT)/audit-logger $(DESTDIR)$(BINDIR)
	$(INSTALL) -m 644 $(PAGES:%=man/%) $(DESTDIR)$(MANDIR)/man1

uninstall:
	rm -f $(DESTDIR)$(BINDIR)/audit-logger $(addprefix $(DESTDIR)$(INCLUDEDIR)/audit_logger.,h hpp) \
		$(addprefix $(DESTDIR)$(LIBDIR)/,$(SHARED) libaudit_logger.so.$(ABI) libaudit_logger.so libaudit_logger.a) \
		$(DESTDIR)$(PKGCONFIGDIR)/audit_logger.pc $(addprefix $(DESTDIR)$(CMAKEDIR)/,$(CMAKE)) \
		$(addprefix $(DESTDIR)$(MANDIR)/man1/,$(PAGES)) $(addprefix $(DESTDIR)$(DOCDIR)/,$(LICENCES))
	-rmdir --ignore-fail-on-non-empty $(DESTDIR)$(CMAKEDIR) $(DESTDIR)$(DOCDIR)

# The packages of other languages, each into bindings/LANGUAGE/dist. They take from an installed tree what
# they hold.
bindings:
	$(MAKE) install-library PREFIX=$(MADE)/prefix DESTDIR=
	AUDIT_LOGGER_PREFIX=$(MADE)/prefix sh bindings/build.sh

# For the Debian that it's made on, into the directory DEBS. debian/rules installs by this file.
DEBS ?= $(CARGO_TARGET_DIR)/debian
# A cargo of rustup's is in no package that dpkg could find.
DEB_PROFILES := $(if $(shell command -v rustup),--build-profiles=pkg.audit-logger.rustup)
deb:
	mkdir -p $(DEBS)
	DEBS=$(DEBS) dpkg-buildpackage --build=binary --post-clean --unsigned-buildinfo --unsigned-changes $(DEB_PROFILES) \
		--buildinfo-file=$(DEBS)/audit-logger.buildinfo --buildinfo-option=-u$(DEBS) \
		--changes-file=$(DEBS)/audit-logger.changes --changes-option=-u$(DEBS)
