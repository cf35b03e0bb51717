// Image writes a container image as an archive that containerd and docker load: files of Debian packages, and the
// program. It runs nothing of what it packs, so an image for another architecture needs no emulator. The same input
// gives the same bytes.
package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const program = "usr/local/bin/bridgewarden"

type options struct {
	name, version, revision, source, architecture string
	program, license, packages, into, layout      string
	epoch                                         int64
}

func main() {
	log.SetFlags(0)
	var o options
	flag.StringVar(&o.name, "name", "", "the image's name with its tag")
	flag.StringVar(&o.version, "version", "", "the program's version")
	flag.StringVar(&o.revision, "revision", "", "the commit that it was built from")
	flag.StringVar(&o.source, "source", "", "the address of the project's repository; none if empty")
	flag.StringVar(&o.architecture, "architecture", "", "amd64 or arm64")
	flag.StringVar(&o.program, "program", "", "the program")
	flag.StringVar(&o.license, "license", "", "the program's licence")
	flag.StringVar(&o.packages, "packages", "", "the directory of the Debian packages")
	flag.StringVar(&o.into, "into", "", "the archive to write")
	flag.StringVar(&o.layout, "layout", "", "the directory of an OCI layout to which the image is added; none if empty")
	flag.Int64Var(&o.epoch, "epoch", 0, "the time of all files, in seconds since 1970 (SOURCE_DATE_EPOCH)")
	flag.Parse()
	if flag.NArg() > 0 || o.name == "" || o.architecture == "" || o.program == "" || o.packages == "" || o.into == "" {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(o); err != nil {
		log.Fatalf("cannot write %s: %v", o.into, err)
	}
}

func run(o options) error {
	system, err := filesOfPackages(o.packages)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(o.program)
	if err != nil {
		return err
	}
	own := tree{program: file{mode: 0o755, content: text}}
	license, err := os.ReadFile(o.license)
	if err != nil {
		return err
	}
	own["usr/share/doc/bridgewarden/copyright"] = file{mode: 0o644, content: license}
	image, err := build(o, system, own)
	if err != nil {
		return err
	}
	return write(o, image)
}

// A file of the image. A link has a target and no content, a directory neither.
type file struct {
	mode    int64
	content []byte
	target  string
	isDir   bool
}

// Files by path without a leading slash.
type tree map[string]file

// What is taken from a package: shared libraries, the programs of iptables, names of protocols, and licences.
func wanted(name string) bool {
	base := path.Base(name)
	switch {
	case strings.HasPrefix(name, "usr/share/doc/"):
		return base == "copyright"
	case strings.HasPrefix(name, "usr/sbin/"):
		return strings.HasPrefix(base, "xtables-") || strings.HasPrefix(base, "iptables") || strings.HasPrefix(base, "ip6tables")
	case name == "etc/protocols" || name == "etc/services":
		return true
	case strings.Contains(name, "/gconv/") || strings.Contains(name, "/audit/"):
		return false
	}
	isLibrary := strings.HasPrefix(name, "lib/") || strings.HasPrefix(name, "lib64/") || strings.HasPrefix(name, "usr/lib/")
	return isLibrary && (strings.HasSuffix(base, ".so") || strings.Contains(base, ".so."))
}

func filesOfPackages(directory string) (tree, error) {
	files := tree{
		"tmp": {mode: 0o1777, isDir: true}, "run": {mode: 0o755, isDir: true}, "proc": {mode: 0o555, isDir: true},
		"sys": {mode: 0o555, isDir: true}, "dev": {mode: 0o755, isDir: true},
		"etc/passwd": {mode: 0o644, content: []byte("root:x:0:0:root:/:/nonexistent\nnobody:x:65534:65534:nobody:/:/nonexistent\n")},
		"etc/group":  {mode: 0o644, content: []byte("root:x:0:\nnobody:x:65534:\n")},
	}
	packages, err := filepath.Glob(filepath.Join(directory, "*.deb"))
	if err != nil || len(packages) == 0 {
		return nil, fmt.Errorf("no package in %s (%v)", directory, err)
	}
	for _, pkg := range packages {
		if err := addPackage(files, pkg); err != nil {
			return nil, fmt.Errorf("%s: %w", pkg, err)
		}
	}
	return files, nil
}

func addPackage(files tree, pkg string) error {
	control, err := exec.Command("dpkg-deb", "--field", pkg).Output()
	if err != nil {
		return fmt.Errorf("dpkg-deb --field: %w", err)
	}
	name, err := exec.Command("dpkg-deb", "--field", pkg, "Package").Output()
	if err != nil {
		return fmt.Errorf("dpkg-deb --field: %w", err)
	}
	// Where programs that list the packages of an image look if it has no dpkg.
	files["var/lib/dpkg/status.d/"+strings.TrimSpace(string(name))] = file{mode: 0o644, content: control}
	content, err := exec.Command("dpkg-deb", "--fsys-tarfile", pkg).Output()
	if err != nil {
		return fmt.Errorf("dpkg-deb --fsys-tarfile: %w", err)
	}
	archive := tar.NewReader(bytes.NewReader(content))
	for {
		header, err := archive.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path.Clean(header.Name), "/")
		if !wanted(name) {
			continue
		}
		switch header.Typeflag {
		case tar.TypeReg:
			text, err := io.ReadAll(archive)
			if err != nil {
				return err
			}
			files[name] = file{mode: header.Mode & 0o755, content: text}
		case tar.TypeSymlink:
			files[name] = file{mode: 0o777, target: header.Linkname}
		}
	}
}

// Layer packs files with the directories that they need.
func layer(files tree, time time.Time) (v1.Layer, error) {
	whole := tree{}
	for name, one := range files {
		whole[name] = one
		for parent := path.Dir(name); parent != "."; parent = path.Dir(parent) {
			if _, known := files[parent]; !known {
				whole[parent] = file{mode: 0o755, isDir: true}
			}
		}
	}
	names := make([]string, 0, len(whole))
	for name := range whole {
		names = append(names, name)
	}
	sort.Strings(names)
	var packed bytes.Buffer
	archive := tar.NewWriter(&packed)
	for _, name := range names {
		one := whole[name]
		header := tar.Header{Name: name, Mode: one.mode, ModTime: time, Typeflag: tar.TypeReg, Size: int64(len(one.content))}
		switch {
		case one.isDir:
			header.Typeflag, header.Name = tar.TypeDir, name+"/"
		case one.target != "":
			header.Typeflag, header.Linkname = tar.TypeSymlink, one.target
		}
		if err := archive.WriteHeader(&header); err != nil {
			return nil, err
		}
		if _, err := archive.Write(one.content); err != nil {
			return nil, err
		}
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(packed.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
}

func build(o options, trees ...tree) (v1.Image, error) {
	created := time.Unix(o.epoch, 0).UTC()
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, files := range trees {
		one, err := layer(files, created)
		if err != nil {
			return nil, err
		}
		if image, err = mutate.Append(image, mutate.Addendum{Layer: one, History: v1.History{
			Created: v1.Time{Time: created}, CreatedBy: "release/build",
		}}); err != nil {
			return nil, err
		}
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.Architecture, config.OS, config.Created = o.architecture, "linux", v1.Time{Time: created}
	config.Config = v1.Config{
		Entrypoint: []string{"/" + program},
		Cmd:        []string{"--help"},
		Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		Labels: map[string]string{
			"org.opencontainers.image.title":       "Bridgewarden",
			"org.opencontainers.image.description": "Enforces Kubernetes NetworkPolicies on nodes whose pods are attached to a Linux bridge",
			"org.opencontainers.image.licenses":    "Apache-2.0",
			"org.opencontainers.image.version":     o.version,
			"org.opencontainers.image.revision":    o.revision,
			"org.opencontainers.image.created":     created.Format(time.RFC3339),
		},
	}
	if o.source != "" {
		config.Config.Labels["org.opencontainers.image.source"] = o.source
	}
	return mutate.ConfigFile(image, config)
}

// Write writes an OCI layout with the file that older versions of docker ask for.
func write(o options, image v1.Image) error {
	directory, err := os.MkdirTemp("", "image")
	if err != nil {
		return err
	}
	defer os.RemoveAll(directory)
	platform := v1.Platform{OS: "linux", Architecture: o.architecture}
	_, tag, _ := strings.Cut(o.name, ":")
	named := layout.WithAnnotations(map[string]string{
		"io.containerd.image.name": "docker.io/library/" + o.name, "org.opencontainers.image.ref.name": tag,
	})
	if err := add(directory, image, layout.WithPlatform(platform), named); err != nil {
		return err
	}
	if o.layout != "" {
		if err := add(o.layout, image, layout.WithPlatform(platform), named); err != nil {
			return err
		}
	}
	manifest, err := image.Manifest()
	if err != nil {
		return err
	}
	blob := func(hash v1.Hash) string { return "blobs/sha256/" + hash.Hex }
	layers := []string{}
	for _, one := range manifest.Layers {
		layers = append(layers, blob(one.Digest))
	}
	old := []map[string]any{{"Config": blob(manifest.Config.Digest), "RepoTags": []string{o.name}, "Layers": layers}}
	text, err := json.Marshal(old)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(directory, "manifest.json"), text, 0o644); err != nil {
		return err
	}
	packed, err := archive(directory, time.Unix(o.epoch, 0))
	if err != nil {
		return err
	}
	digest, err := image.Digest()
	if err != nil {
		return err
	}
	sum := sha256.Sum256(packed)
	fmt.Printf("%s: %d bytes, image %s, sha256 %s\n", o.into, len(packed), digest, hex.EncodeToString(sum[:8]))
	return os.WriteFile(o.into, packed, 0o644)
}

func add(directory string, image v1.Image, options ...layout.Option) error {
	into, err := layout.FromPath(directory)
	if err != nil {
		if into, err = layout.Write(directory, empty.Index); err != nil {
			return err
		}
	}
	return into.AppendImage(image, options...)
}

func archive(directory string, time time.Time) ([]byte, error) {
	var packed bytes.Buffer
	writer := tar.NewWriter(&packed)
	err := filepath.WalkDir(directory, func(at string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(directory, at)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(at)
		if err != nil {
			return err
		}
		header := tar.Header{Name: name, Mode: 0o644, ModTime: time, Typeflag: tar.TypeReg, Size: int64(len(text))}
		if err := writer.WriteHeader(&header); err != nil {
			return err
		}
		_, err = writer.Write(text)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}
