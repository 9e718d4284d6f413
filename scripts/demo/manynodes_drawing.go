package main

import "fmt"

// drawing is the topology with the addresses that the run had.
func (m *manyNodes) drawing() string {
	args := []any{}
	for pod := range 2 {
		for _, n := range m.nodes {
			args = append(args, fmt.Sprintf("%-14s", n.pods[pod].addrs[0]))
		}
	}
	for _, n := range m.nodes {
		args = append(args, fmt.Sprintf("%-14s", n.addr))
	}
	return fmt.Sprintf(`
   pod-a1, pod-a2       pod-b1, pod-b2       pod-c1, pod-c2       pod-d1, pod-d2
   %s       %s       %s       %s
   %s       %s       %s       %s
     |                    |                    |                    |
     veth                 veth                 veth                 veth
     |                    |                    |                    |
  +--+---------------+ +--+---------------+ +--+---------------+ +--+---------------+
  |  10.244.1.0/24   | |  10.244.2.0/24   | |  10.244.3.0/24   | |  10.244.4.0/24   |
  |  vxlan42 ========================= tunnel, VNI 42 =====================         |
  |  node-a          | |  node-b          | |  node-c          | |  node-d          |
  |  %s  | |  %s  | |  %s  | |  %s  |
  +--+---------------+ +--+---------------+ +--+---------------+ +--+---------------+
     |                    |                    |                    |
  +--+--------------------+--------------------+-----+  +-----------+---------------+
  |  switch  192.0.2.0/24                            +--+  router  198.51.100.0/24  |
  +--------------------------------------------------+  +---------------------------+
`, args...)
}
