// Alerts reads files of rules as Prometheus does, and says what is wrong with them: in their form, expressions and
// templates, or in what whoever is alerted needs to know.
package main

import (
	"fmt"
	"log"
	"log/slog"
	"os"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal("usage: alerts FILE...")
	}
	faults, alerts := 0, 0
	for _, file := range os.Args[1:] {
		expressions := parser.NewParser(parser.Options{})
		read, errors := rulefmt.ParseFile(file, false, model.UTF8Validation, expressions, slog.New(slog.DiscardHandler))
		for _, err := range errors {
			fmt.Println(err)
		}
		faults += len(errors)
		if read == nil {
			continue
		}
		for _, group := range read.Groups {
			for _, rule := range group.Rules {
				if rule.Record != "" {
					continue
				}
				alerts++
				for name, text := range map[string]string{
					"annotation summary":     rule.Annotations["summary"],
					"annotation description": rule.Annotations["description"],
					"annotation runbook":     rule.Annotations["runbook"],
					"label severity":         rule.Labels["severity"],
				} {
					if text == "" {
						fmt.Printf("%s: %s: it has no %s\n", file, rule.Alert, name)
						faults++
					}
				}
			}
		}
	}
	if faults > 0 {
		os.Exit(1)
	}
	fmt.Printf("%d alerts\n", alerts)
}
