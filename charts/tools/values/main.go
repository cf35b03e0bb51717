// Values says which of a chart's values are not described in its values.yaml, and which of them no case shows to change
// what is rendered. A case is a file of values.
package main

import (
	"fmt"
	"log"
	"os"
	"reflect"
	"sort"
	"strings"

	"go.yaml.in/yaml/v3"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 3 {
		log.Fatal("usage: values CHART CASE...")
	}
	faults, checked, err := check(os.Args[1], os.Args[2:])
	if err != nil {
		log.Fatal(err)
	}
	for _, fault := range faults {
		fmt.Println(fault)
	}
	if len(faults) > 0 {
		os.Exit(1)
	}
	fmt.Printf("%d values are described and used\n", checked)
}

func check(path string, cases []string) (faults []string, checked int, err error) {
	loaded, err := loader.Load(path)
	if err != nil {
		return nil, 0, err
	}
	var document yaml.Node
	for _, file := range loaded.Raw {
		if file.Name == "values.yaml" {
			if err := yaml.Unmarshal(file.Data, &document); err != nil {
				return nil, 0, err
			}
		}
	}
	described, undescribed := leaves(document.Content[0], nil)
	for _, value := range undescribed {
		faults = append(faults, value+": values.yaml does not say what it is")
	}
	unseen := map[string][]string{}
	for _, value := range described {
		unseen[strings.Join(value, ".")] = value
	}
	checked = len(unseen)
	for _, file := range cases {
		values, err := chartutil.ReadValuesFile(file)
		if err != nil {
			return nil, 0, fmt.Errorf("%s: %w", file, err)
		}
		with, err := render(loaded, values)
		if err != nil {
			return nil, 0, fmt.Errorf("%s: %w", file, err)
		}
		for name, value := range unseen {
			fewer := without(values, value)
			if fewer == nil {
				continue
			}
			// If nothing can be rendered without it, it is used as well.
			if bare, err := render(loaded, fewer); err != nil || !reflect.DeepEqual(with, bare) {
				delete(unseen, name)
			}
		}
	}
	for name := range unseen {
		faults = append(faults, name+": no case shows that it changes anything")
	}
	sort.Strings(faults)
	return faults, checked, nil
}

// Leaves are the values below a mapping that have a description, and those that neither have one nor are part of one.
func leaves(mapping *yaml.Node, above []string) (described [][]string, undescribed []string) {
	for at := 0; at < len(mapping.Content); at += 2 {
		key, value := mapping.Content[at], mapping.Content[at+1]
		path := append(append([]string{}, above...), key.Value)
		switch {
		case strings.HasPrefix(key.HeadComment, "# -- "):
			described = append(described, path)
		case value.Kind == yaml.MappingNode && len(value.Content) > 0:
			more, missing := leaves(value, path)
			described, undescribed = append(described, more...), append(undescribed, missing...)
		default:
			undescribed = append(undescribed, strings.Join(path, "."))
		}
	}
	return described, undescribed
}

// Without is a copy of values that does not have this one; nil if they do not have it anyway.
func without(values map[string]any, path []string) map[string]any {
	value, ok := values[path[0]]
	if !ok {
		return nil
	}
	fewer := map[string]any{}
	for key, other := range values {
		fewer[key] = other
	}
	delete(fewer, path[0])
	if len(path) > 1 {
		inner, ok := value.(map[string]any)
		if !ok {
			return nil
		}
		if inner = without(inner, path[1:]); inner == nil {
			return nil
		}
		fewer[path[0]] = inner
	}
	return fewer
}

func render(of *chart.Chart, values map[string]any) (map[string]string, error) {
	capabilities := chartutil.DefaultCapabilities.Copy()
	release := chartutil.ReleaseOptions{Name: "bridgewarden", Namespace: "kube-system", IsInstall: true}
	whole, err := chartutil.ToRenderValues(of, values, release, capabilities)
	if err != nil {
		return nil, err
	}
	return engine.Render(of, whole)
}
