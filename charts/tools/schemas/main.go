// Schemas writes the JSON schemas that kubeconform asks for, of the kinds that the chart can render, from what Kubernetes
// and the operators of Prometheus and Grafana publish of themselves. All come from the module proxy, pinned by version and sum. A field
// that is not in a schema is refused.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

// A module whose files are read, and of which no code is built.
type module struct{ path, version, sum string }

var (
	kubernetes = module{"k8s.io/kubernetes", "v1.34.4", "h1:Yy6R4QB8C9kJPp25GFqEvX5XQwY5qzKeqD0Xx6oAcmk="}
	prometheus = module{"github.com/prometheus-operator/prometheus-operator", "v0.85.0", "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s="}
	grafana    = module{"github.com/grafana/grafana-operator/v5", "v5.19.4", "h1:RJbitTafZsz11YxFIANxc0I+d/eTyj2nbHN9aK317oo="}
)

// Definitions in Kubernetes' OpenAPI document, by the name of the file that kubeconform asks for.
var kinds = map[string]string{
	"configmap-v1":                "io.k8s.api.core.v1.ConfigMap",
	"pod-v1":                      "io.k8s.api.core.v1.Pod",
	"service-v1":                  "io.k8s.api.core.v1.Service",
	"resourcequota-v1":            "io.k8s.api.core.v1.ResourceQuota",
	"serviceaccount-v1":           "io.k8s.api.core.v1.ServiceAccount",
	"daemonset-apps-v1":           "io.k8s.api.apps.v1.DaemonSet",
	"deployment-apps-v1":          "io.k8s.api.apps.v1.Deployment",
	"networkpolicy-networking-v1": "io.k8s.api.networking.v1.NetworkPolicy",
	"clusterrole-rbac-v1":         "io.k8s.api.rbac.v1.ClusterRole",
	"clusterrolebinding-rbac-v1":  "io.k8s.api.rbac.v1.ClusterRoleBinding",
	"role-rbac-v1":                "io.k8s.api.rbac.v1.Role",
	"rolebinding-rbac-v1":         "io.k8s.api.rbac.v1.RoleBinding",
}

// The definition of a custom resource, in a file of a module.
type definition struct {
	from    module
	path    string
	version string
}

const prometheusCRDs = "example/prometheus-operator-crd/monitoring.coreos.com_"

// Custom resources, by the name of the file that kubeconform asks for.
var customKinds = map[string]definition{
	"podmonitor-monitoring-v1":         {prometheus, prometheusCRDs + "podmonitors.yaml", "v1"},
	"prometheusrule-monitoring-v1":     {prometheus, prometheusCRDs + "prometheusrules.yaml", "v1"},
	"grafanadashboard-grafana-v1beta1": {grafana, "config/crd/bases/grafana.integreatly.org_grafanadashboards.yaml", "v1beta1"},
}

type object = map[string]any

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: schemas DIRECTORY")
	}
	if err := write(os.Args[1]); err != nil {
		log.Fatal("cannot write schemas: ", err)
	}
}

func write(directory string) error {
	var openAPI struct{ Definitions map[string]object }
	if err := read(kubernetes, "api/openapi-spec/swagger.json", &openAPI); err != nil {
		return err
	}
	definitions := openAPI.Definitions
	// The document calls it a string, and the API server takes numbers too.
	definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"] = object{"type": []string{"string", "number"}}
	schemas := map[string]any{}
	for file, name := range kinds {
		if definitions[name] == nil {
			return fmt.Errorf("%s has no definition of %s", kubernetes.path, name)
		}
		schemas[file] = strict(definitions[name], definitions)
	}
	metadata := definitions["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"]
	for file, custom := range customKinds {
		var resource struct {
			Spec struct {
				Versions []struct {
					Name   string
					Schema struct{ OpenAPIV3Schema object }
				}
			}
		}
		if err := read(custom.from, custom.path, &resource); err != nil {
			return err
		}
		for _, version := range resource.Spec.Versions {
			if version.Name == custom.version {
				schema := version.Schema.OpenAPIV3Schema
				schema["properties"].(object)["metadata"] = metadata
				schemas[file] = strict(schema, definitions)
			}
		}
		if schemas[file] == nil {
			return fmt.Errorf("%s has no version %s", custom.path, custom.version)
		}
	}
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return err
	}
	for file, schema := range schemas {
		text, err := json.Marshal(schema)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(directory, file+".json"), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Read decodes a file of a module, YAML or JSON.
func read(from module, path string, into any) error {
	said, err := exec.Command("go", "mod", "download", "-json", from.path+"@"+from.version).Output()
	var got struct{ Dir, Sum, Error string }
	if jsonError := json.Unmarshal(said, &got); jsonError != nil || got.Error != "" {
		return fmt.Errorf("go mod download %s@%s: %v %s", from.path, from.version, err, got.Error)
	}
	if got.Sum != from.sum {
		return fmt.Errorf("%s@%s is not what it was: its sum is %s and not %s", from.path, from.version, got.Sum, from.sum)
	}
	text, err := os.ReadFile(filepath.Join(got.Dir, path))
	if err != nil {
		return err
	}
	return yaml.Unmarshal(text, into)
}

// Strict is a schema with every reference put in its place, that knows no other fields than those it names.
func strict(schema object, definitions map[string]object) object {
	if name, ok := schema["$ref"].(string); ok {
		return strict(definitions[strings.TrimPrefix(name, "#/definitions/")], definitions)
	}
	if schema["format"] == "int-or-string" || schema["x-kubernetes-int-or-string"] == true {
		return object{"type": []string{"integer", "string"}}
	}
	whole := object{}
	for key, value := range schema {
		switch key {
		case "properties":
			properties := object{}
			for name, property := range value.(object) {
				properties[name] = strict(property.(object), definitions)
			}
			whole[key] = properties
		case "items", "additionalProperties":
			if inner, ok := value.(object); ok {
				value = strict(inner, definitions)
			}
			whole[key] = value
		case "type", "required", "enum", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems":
			whole[key] = value
		}
	}
	_, isOpen := whole["additionalProperties"]
	if _, hasFields := whole["properties"]; hasFields && !isOpen && schema["x-kubernetes-preserve-unknown-fields"] != true {
		whole["additionalProperties"] = false
	}
	return whole
}
