// Bom writes what a release consists of, as CycloneDX: the crates of the program, from `cargo metadata` on its standard
// input, and the Debian packages of the image.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// The part of `cargo metadata --format-version 1` that is read.
type metadata struct {
	Packages []struct {
		ID, Name, Version, License, Source string
	}
	Resolve struct {
		Nodes []struct {
			ID   string
			Deps []struct {
				Pkg      string
				DepKinds []struct{ Kind *string } `json:"dep_kinds"`
			}
		}
	}
}

func main() {
	log.SetFlags(0)
	packages := flag.String("packages", "", "the directory of the Debian packages")
	epoch := flag.Int64("epoch", 0, "the time of the release, in seconds since 1970 (SOURCE_DATE_EPOCH)")
	root := flag.String("root", "bridgewarden", "the crate of the program")
	flag.Parse()
	var all metadata
	if err := json.NewDecoder(os.Stdin).Decode(&all); err != nil {
		log.Fatalf("cannot read the output of cargo metadata: %v", err)
	}
	bom, err := describe(all, *root, *packages, *epoch)
	if err != nil {
		log.Fatal(err)
	}
	encoder := cdx.NewBOMEncoder(os.Stdout, cdx.BOMFileFormatJSON)
	encoder.SetPretty(true)
	if err := encoder.Encode(bom); err != nil {
		log.Fatalf("cannot write the bill of materials: %v", err)
	}
}

func describe(all metadata, root, packages string, epoch int64) (*cdx.BOM, error) {
	used, err := crates(all, root)
	if err != nil {
		return nil, err
	}
	components := []cdx.Component{}
	var program cdx.Component
	for _, one := range all.Packages {
		if !used[one.ID] {
			continue
		}
		component := cdx.Component{
			BOMRef: "crate/" + one.Name + "@" + one.Version, Type: cdx.ComponentTypeLibrary, Name: one.Name, Version: one.Version,
		}
		if one.License != "" {
			component.Licenses = &cdx.Licenses{{Expression: strings.ReplaceAll(one.License, "/", " OR ")}}
		}
		switch {
		case one.Name == root:
			component.Type = cdx.ComponentTypeApplication
			program = component
			continue
		case one.Source != "":
			component.PackageURL = "pkg:cargo/" + one.Name + "@" + one.Version
		}
		components = append(components, component)
	}
	debian, err := debianPackages(packages)
	if err != nil {
		return nil, err
	}
	components = append(components, debian...)
	sort.Slice(components, func(a, b int) bool { return components[a].BOMRef < components[b].BOMRef })
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Timestamp: time.Unix(epoch, 0).UTC().Format(time.RFC3339), Component: &program}
	bom.Components = &components
	return bom, nil
}

// Crates are those that the program is linked from, or that are executed to build it.
func crates(all metadata, root string) (map[string]bool, error) {
	needs := map[string][]string{}
	for _, node := range all.Resolve.Nodes {
		for _, dependency := range node.Deps {
			for _, kind := range dependency.DepKinds {
				if kind.Kind == nil || *kind.Kind != "dev" {
					needs[node.ID] = append(needs[node.ID], dependency.Pkg)
				}
			}
		}
	}
	waiting := []string{}
	for _, one := range all.Packages {
		if one.Name == root && one.Source == "" {
			waiting = append(waiting, one.ID)
		}
	}
	if len(waiting) != 1 {
		return nil, fmt.Errorf("there are %d crates called %s", len(waiting), root)
	}
	used := map[string]bool{}
	for len(waiting) > 0 {
		id := waiting[0]
		waiting = waiting[1:]
		if !used[id] {
			used[id] = true
			waiting = append(waiting, needs[id]...)
		}
	}
	return used, nil
}

func debianPackages(directory string) ([]cdx.Component, error) {
	files, err := filepath.Glob(filepath.Join(directory, "*.deb"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no package in %s (%v)", directory, err)
	}
	components := []cdx.Component{}
	for _, file := range files {
		said, err := exec.Command("dpkg-deb", "--show", "--showformat=${Package}\n${Version}\n${Architecture}\n", file).Output()
		fields := strings.Split(strings.TrimSpace(string(said)), "\n")
		if err != nil || len(fields) != 3 {
			return nil, fmt.Errorf("%s: dpkg-deb --show: %v", file, err)
		}
		version := strings.ReplaceAll(fields[1], "+", "%2B")
		components = append(components, cdx.Component{
			BOMRef: fmt.Sprintf("deb/%s@%s?arch=%s", fields[0], fields[1], fields[2]), Type: cdx.ComponentTypeLibrary,
			Name: fields[0], Version: fields[1],
			PackageURL: fmt.Sprintf("pkg:deb/debian/%s@%s?arch=%s", fields[0], version, fields[2]),
		})
	}
	return components, nil
}
