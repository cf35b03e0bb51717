// A CNI plugin of type "flannel" for test clusters whose machine can't pull flannel's own: it reads what flanneld wrote
// about this node's subnet, completes the "delegate" of its configuration with it, and hands that to the delegate
// (by default "bridge", with addresses from "host-local").
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
)

// config is the plugin's part of the CNI configuration.
type config struct {
	types.NetConf
	SubnetFile string         `json:"subnetFile"`
	DataDir    string         `json:"dataDir"`
	Delegate   map[string]any `json:"delegate"`
}

func main() {
	skel.PluginMainFuncs(skel.CNIFuncs{Add: add, Del: del, Check: check}, version.All, "flannel, delegating to bridge")
}

func add(args *skel.CmdArgs) error {
	config, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	delegate, err := delegateOf(config)
	if err != nil {
		return err
	}
	// A pod is taken down with the configuration it was set up with, whatever flanneld says by then.
	if err := os.MkdirAll(config.DataDir, 0o700); err != nil {
		return fmt.Errorf("make the directory of pods' configurations: %w", err)
	}
	if err := os.WriteFile(filepath.Join(config.DataDir, args.ContainerID), delegate, 0o600); err != nil {
		return fmt.Errorf("keep the pod's configuration: %w", err)
	}
	result, err := invoke.DelegateAdd(context.Background(), config.Delegate["type"].(string), delegate, nil)
	if err != nil {
		return err
	}
	return result.Print()
}

func check(args *skel.CmdArgs) error {
	return withKept(args, func(_, plugin string, delegate []byte) error {
		return invoke.DelegateCheck(context.Background(), plugin, delegate, nil)
	})
}

func del(args *skel.CmdArgs) error {
	err := withKept(args, func(file, plugin string, delegate []byte) error {
		if err := invoke.DelegateDel(context.Background(), plugin, delegate, nil); err != nil {
			return err
		}
		return os.Remove(file)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it was taken down before: DEL may be repeated
	}
	return err
}

// withKept calls do with the configuration that add kept for this pod: its file, its plugin, and itself.
func withKept(args *skel.CmdArgs, do func(file, plugin string, delegate []byte) error) error {
	config, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	file := filepath.Join(config.DataDir, args.ContainerID)
	delegate, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read the pod's configuration: %w", err)
	}
	var head types.NetConf
	if err := json.Unmarshal(delegate, &head); err != nil {
		return fmt.Errorf("read the pod's configuration %s: %w", file, err)
	}
	return do(file, head.Type, delegate)
}

func parse(stdin []byte) (*config, error) {
	config := &config{SubnetFile: "/run/flannel/subnet.env", DataDir: "/var/lib/cni/flannel"}
	if err := json.Unmarshal(stdin, config); err != nil {
		return nil, fmt.Errorf("read the network configuration: %w", err)
	}
	if config.Delegate == nil {
		config.Delegate = map[string]any{}
	}
	setDefault(config.Delegate, "type", "bridge")
	if _, ok := config.Delegate["type"].(string); !ok {
		return nil, errors.New("read the network configuration: delegate.type isn't a string")
	}
	return config, nil
}

// delegateOf is the delegate's configuration: what the network configuration says, completed by what flanneld wrote.
func delegateOf(config *config) ([]byte, error) {
	flannel, err := readEnv(config.SubnetFile)
	if err != nil {
		return nil, fmt.Errorf("read flanneld's file (does flanneld run on this node?): %w", err)
	}
	mtu, err := strconv.Atoi(flannel["FLANNEL_MTU"])
	if err != nil {
		return nil, fmt.Errorf("read FLANNEL_MTU in %s: %w", config.SubnetFile, err)
	}
	var ranges, routes []any
	for _, family := range []string{"", "IPV6_"} {
		if gateway, ok := flannel["FLANNEL_"+family+"SUBNET"]; ok {
			_, subnet, err := net.ParseCIDR(gateway)
			if err != nil {
				return nil, fmt.Errorf("read FLANNEL_%sSUBNET in %s: %w", family, config.SubnetFile, err)
			}
			ranges = append(ranges, []any{map[string]any{"subnet": subnet.String()}})
		}
		if network, ok := flannel["FLANNEL_"+family+"NETWORK"]; ok {
			routes = append(routes, map[string]any{"dst": network})
		}
	}
	delegate := config.Delegate
	delegate["name"] = config.Name
	delegate["cniVersion"] = config.CNIVersion
	delegate["ipam"] = map[string]any{"type": "host-local", "ranges": ranges, "routes": routes}
	setDefault(delegate, "mtu", mtu)
	setDefault(delegate, "ipMasq", flannel["FLANNEL_IPMASQ"] != "true")
	if delegate["type"] == "bridge" {
		setDefault(delegate, "isGateway", true)
	}
	return json.Marshal(delegate)
}

func setDefault(object map[string]any, key string, value any) {
	if _, ok := object[key]; !ok {
		object[key] = value
	}
}

// readEnv reads a file of KEY=VALUE lines.
func readEnv(name string) (map[string]string, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	env := map[string]string{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if key, value, ok := strings.Cut(lines.Text(), "="); ok {
			env[key] = value
		}
	}
	return env, lines.Err()
}
