// Command releasecheck answers the question "does this work for somebody who has only the
// release?". It lays the working tree out as a module proxy on the file system, as if every
// module were tagged, without the workspace and without the replace lines that tie the modules
// together here. Then, as a stranger, it builds a module that imports every importable package,
// installs and starts every program, and counts what a program that imports the core is linked
// with.
//
// It publishes nothing, and keeps out of the module cache of the user.
package main

import (
	"context"
	"debug/buildinfo"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

// version is the version that the modules pretend to have.
const version = "v0.0.1-check"

func main() {
	c := config{}
	flag.StringVar(&c.root, "root", "", "a folder of the repository (default the current one)")
	flag.IntVar(&c.coreModules, "core-modules", 5, "most modules that a program which imports only the core may be linked with")
	flag.BoolVar(&c.keep, "keep", false, "keep the temporary folder and print its name")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := check(ctx, c, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "release-check:", err)
		os.Exit(1)
	}
}

type config struct {
	root        string
	coreModules int
	keep        bool
}

// release is the set of modules that a release tags, and where the check works.
type release struct {
	temp string
	env  []string
	out  io.Writer
	core string   // path of the root module
	all  []string // paths of all tagged modules
}

func check(ctx context.Context, c config, out io.Writer) (err error) {
	top, err := command(ctx, c.root, nil, "git", "rev-parse", "--show-toplevel")
	if err != nil {
		return err
	}
	root := strings.TrimSpace(top)
	temp, err := os.MkdirTemp("", "releasecheck-")
	if err != nil {
		return err
	}
	if c.keep {
		fmt.Fprintln(out, "working in", temp)
	} else {
		defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	}
	r := &release{temp: temp, out: out}
	if err := r.setEnv(ctx); err != nil {
		return err
	}
	tree := filepath.Join(temp, "tree")
	if err := copyTree(ctx, root, tree); err != nil {
		return fmt.Errorf("copy the working tree: %w", err)
	}
	if err := r.layOut(tree); err != nil {
		return err
	}
	programs, err := r.importAll(ctx)
	if err != nil {
		return err
	}
	for _, program := range programs {
		if err := r.install(ctx, program); err != nil {
			return err
		}
	}
	if err := r.linkCore(ctx, c.coreModules); err != nil {
		return err
	}
	fmt.Fprintln(out, "release-check: passed")
	return nil
}

// setEnv decides how the go command sees the world: the laid-out modules first, then what the
// user has downloaded already, then the user's proxy.
func (r *release) setEnv(ctx context.Context) error {
	values, err := command(ctx, "", nil, "go", "env", "GOPROXY", "GOMODCACHE")
	if err != nil {
		return err
	}
	proxy, cache, _ := strings.Cut(strings.TrimSpace(values), "\n")
	r.env = append(os.Environ(),
		"GOPROXY=file://"+filepath.ToSlash(filepath.Join(r.temp, "proxy"))+",file://"+filepath.ToSlash(filepath.Join(cache, "cache", "download"))+","+proxy,
		"GOMODCACHE="+filepath.Join(r.temp, "cache"),
		"GOBIN="+filepath.Join(r.temp, "bin"),
		"GOWORK=off",
		"GOFLAGS=-mod=mod -modcacherw",
		// The modules are not published, so no database has their sums; nor is the sum of a
		// dependency what this command is about.
		"GOSUMDB=off", "GONOSUMDB=*", "GOPRIVATE=", "GONOPROXY=none",
	)
	return nil
}

// copyTree copies what git tracks or would track: what is ignored is not in a release.
func copyTree(ctx context.Context, from, to string) error {
	list, err := command(ctx, from, nil, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(list, "\x00"), "\x00") {
		content, err := os.ReadFile(filepath.Join(from, name))
		if errors.Is(err, os.ErrNotExist) {
			continue // tracked and deleted
		}
		if err != nil {
			return err
		}
		target := filepath.Join(to, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(target), 0o750), os.WriteFile(target, content, 0o600)); err != nil {
			return err
		}
	}
	return nil
}

// tagged reports whether a release tags the module in a folder of the workspace.
func tagged(dir string) bool {
	return dir != "bench" && dir != "contrib" && dir != "internal" &&
		!strings.HasPrefix(dir, "internal/") && !strings.HasPrefix(dir, "contrib/")
}

// layOut writes every tagged module into the proxy.
func (r *release) layOut(tree string) error {
	content, err := os.ReadFile(filepath.Join(tree, "go.work"))
	if err != nil {
		return err
	}
	work, err := modfile.ParseWork("go.work", content, nil)
	if err != nil {
		return err
	}
	files := map[string]*modfile.File{}
	for _, use := range work.Use {
		dir := path.Clean(use.Path)
		if !tagged(dir) {
			continue
		}
		name := filepath.Join(tree, dir, "go.mod")
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		file, err := modfile.Parse(path.Join(dir, "go.mod"), content, nil)
		if err != nil {
			return err
		}
		files[dir] = file
		r.all = append(r.all, file.Module.Mod.Path)
		if dir == "." {
			r.core = file.Module.Mod.Path
		}
	}
	if r.core == "" {
		return errors.New("go.work does not use the root module")
	}
	for dir, file := range files {
		if want := path.Join(r.core, dir); file.Module.Mod.Path != want {
			return fmt.Errorf("%s/go.mod declares %s, which nobody can download: want %s", dir, file.Module.Mod.Path, want)
		}
		if err := r.publish(filepath.Join(tree, dir), file); err != nil {
			return fmt.Errorf("%s: %w", file.Module.Mod.Path, err)
		}
	}
	slices.Sort(r.all)
	return nil
}

// publish rewrites a go.mod as the release does and writes the module into the proxy.
func (r *release) publish(dir string, file *modfile.File) error {
	for _, replace := range slices.Clone(file.Replace) {
		if !slices.Contains(r.all, replace.Old.Path) {
			return fmt.Errorf("replaces %s, which users of the module do not see", replace.Old.Path)
		}
		if err := file.DropReplace(replace.Old.Path, replace.Old.Version); err != nil {
			return err
		}
	}
	for _, require := range file.Require {
		switch {
		case slices.Contains(r.all, require.Mod.Path):
			if err := file.AddRequire(require.Mod.Path, version); err != nil {
				return err
			}
		case strings.HasPrefix(require.Mod.Path, r.core+"/"):
			return fmt.Errorf("requires %s, which is never tagged", require.Mod.Path)
		}
	}
	file.Cleanup()
	mod, err := file.Format()
	if err != nil {
		return err
	}
	escaped, err := module.EscapePath(file.Module.Mod.Path)
	if err != nil {
		return err
	}
	at := filepath.Join(r.temp, "proxy", filepath.FromSlash(escaped), "@v")
	if err := os.MkdirAll(at, 0o750); err != nil {
		return err
	}
	archive, err := os.Create(filepath.Join(at, version+".zip"))
	if err != nil {
		return err
	}
	err = os.WriteFile(filepath.Join(dir, "go.mod"), mod, 0o600)
	if err == nil {
		err = zip.CreateFromDir(archive, module.Version{Path: file.Module.Mod.Path, Version: version}, dir)
	}
	return errors.Join(err, archive.Close(),
		os.WriteFile(filepath.Join(at, version+".mod"), mod, 0o600),
		os.WriteFile(filepath.Join(at, version+".info"), []byte(`{"Version":"`+version+`","Time":"2000-01-01T00:00:00Z"}`), 0o600),
		os.WriteFile(filepath.Join(at, "list"), []byte(version+"\n"), 0o600))
}

// importAll builds a module that imports every importable package of the release. It returns
// the programs.
func (r *release) importAll(ctx context.Context) (programs []string, err error) {
	dir, err := r.newModule("consumer", r.all...)
	if err != nil {
		return nil, err
	}
	list, err := r.goCommand(ctx, dir, "list", "-f", "{{.Module.Path}}\t{{.ImportPath}}\t{{.Name}}", r.core+"/...")
	if err != nil {
		return nil, fmt.Errorf("list the packages: %w", err)
	}
	var source strings.Builder
	source.WriteString("package consumer\n\nimport (\n")
	found := map[string]int{}
	for line := range strings.Lines(list) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			return nil, fmt.Errorf("list the packages: cannot read %q", line)
		}
		mod, pkg, name := fields[0], fields[1], fields[2]
		if strings.Contains(pkg+"/", "/internal/") {
			continue
		}
		found[mod]++
		if name == "main" {
			programs = append(programs, pkg)
			continue
		}
		fmt.Fprintf(&source, "\t_ %q\n", pkg)
	}
	source.WriteString(")\n")
	for _, mod := range r.all {
		if found[mod] == 0 {
			return nil, fmt.Errorf("%s has no package for users: is it to be released?", mod)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "consumer.go"), []byte(source.String()), 0o600); err != nil {
		return nil, err
	}
	if _, err := r.goCommand(ctx, dir, "build", "./..."); err != nil {
		return nil, fmt.Errorf("a module that imports every package does not build: %w", err)
	}
	for _, mod := range r.all {
		fmt.Fprintf(r.out, "ok  %s (%d packages and programs)\n", mod, found[mod])
	}
	return programs, nil
}

// install installs a program by its version and asks it for its help.
func (r *release) install(ctx context.Context, program string) error {
	if _, err := r.goCommand(ctx, r.temp, "install", program+"@"+version); err != nil {
		return fmt.Errorf("go install %s: %w", program, err)
	}
	help, err := command(ctx, r.temp, nil, filepath.Join(r.temp, "bin", path.Base(program)), "--help")
	if err != nil {
		return fmt.Errorf("%s: %w", program, err)
	}
	if strings.TrimSpace(help) == "" {
		return fmt.Errorf("%s --help prints nothing", program)
	}
	fmt.Fprintf(r.out, "ok  go install %s, and its --help\n", program)
	return nil
}

// linkCore builds a program that imports the root package and counts its modules.
func (r *release) linkCore(ctx context.Context, most int) error {
	dir, err := r.newModule("core", r.core)
	if err != nil {
		return err
	}
	source := fmt.Sprintf("package main\n\nimport _ %q\n\nfunc main() {}\n", r.core)
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o600); err != nil {
		return err
	}
	binary := filepath.Join(dir, "core.out")
	if _, err := r.goCommand(ctx, dir, "build", "-o", binary, "."); err != nil {
		return fmt.Errorf("a program that imports the core does not build: %w", err)
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return err
	}
	var linked []string
	for _, dep := range info.Deps {
		linked = append(linked, dep.Path)
	}
	if len(linked) > most {
		return fmt.Errorf("a program that imports only %s is linked with %d modules, at most %d are allowed: %s", r.core, len(linked), most, strings.Join(linked, ", "))
	}
	fmt.Fprintf(r.out, "ok  a program that imports only the core is linked with %d of at most %d modules: %s\n", len(linked), most, strings.Join(linked, ", "))
	return nil
}

// newModule makes a module that requires modules of the release.
func (r *release) newModule(name string, requires ...string) (string, error) {
	dir := filepath.Join(r.temp, name)
	var mod strings.Builder
	fmt.Fprintf(&mod, "module example.com/%s\n\ngo 1.26\n\nrequire (\n", name)
	for _, path := range requires {
		fmt.Fprintf(&mod, "\t%s %s\n", path, version)
	}
	mod.WriteString(")\n")
	return dir, errors.Join(os.MkdirAll(dir, 0o750), os.WriteFile(filepath.Join(dir, "go.mod"), []byte(mod.String()), 0o600))
}

func (r *release) goCommand(ctx context.Context, dir string, args ...string) (string, error) {
	return command(ctx, dir, r.env, "go", args...)
}

// command runs a command and returns its standard output.
func command(ctx context.Context, dir string, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, env
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), args[0], err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}
