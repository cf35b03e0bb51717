// Prints the name of the agnhost image that the Kubernetes e2e tests of this version use.
package main

import (
	"fmt"

	"k8s.io/kubernetes/test/utils/image"
)

func main() { fmt.Println(image.GetE2EImage(image.Agnhost)) }
