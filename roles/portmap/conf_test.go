package portmap

import (
	"strings"
	"testing"

	"github.com/cnibox/cnibox/netutil/nft"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
	"github.com/cnibox/cnibox/roles"
	"github.com/cnibox/cnibox/roles/roletest"
)

func mustLoad(t *testing.T, conf string) *conf {
	t.Helper()
	c, err := load(&roles.Request{Conf: []byte(conf)})
	if err != nil {
		t.Fatalf("%s: %v", conf, err)
	}
	return c
}

// mappings is a configuration with these port mappings.
func mappings(list string) string { return `{"runtimeConfig": {"portMappings": [` + list + `]}}` }

func TestMappings(t *testing.T) {
	t.Parallel()
	tests := []struct{ conf, want string }{
		{`{}`, ""},
		{`{"runtimeConfig": {"portMappings": null}}`, ""},
		{mappings(`{"hostPort": 8080, "containerPort": 80}`), "8080/tcp>80"},
		{mappings(`{"hostPort": 8080, "containerPort": 80, "protocol": "UDP"}`), "8080/udp>80"},
		{mappings(`{"hostPort": 1, "containerPort": 65535, "protocol": "Sctp", "hostIP": "fd00::1"}`), "[fd00::1]:1/sctp>65535"},
		{mappings(`{"hostPort": 80, "containerPort": 80, "hostIP": "::ffff:192.0.2.1"}`), "192.0.2.1:80/tcp>80"},
		{mappings(`{"hostPort": 80, "containerPort": 80, "hostIP": "127.0.0.1", "range": 1}`), "127.0.0.1:80/tcp>80"},
		// As containerd 1.6 sends it.
		{mappings(`{"HostPort":18080,"ContainerPort":80,"Protocol":"tcp","HostIP":""}`), "18080/tcp>80"},
		// What a container merely exposes has no host port.
		{mappings(`{"hostPort": 0, "containerPort": 80}, {"containerPort": 81}, {"hostPort": 5, "containerPort": 6}`), "5/tcp>6"},
		{
			mappings(`{"hostPort": 53, "containerPort": 53}, {"hostPort": 53, "containerPort": 53, "protocol": "udp"}`),
			"53/tcp>53 53/udp>53",
		},
		{ // one for every address, one for a single address
			mappings(`{"hostPort": 53, "containerPort": 53}, {"hostPort": 53, "containerPort": 54, "hostIP": "192.0.2.1"}`),
			"53/tcp>53 192.0.2.1:53/tcp>54",
		},
		{
			mappings(`{"hostPort": 53, "containerPort": 53, "hostIP": "::"}, {"hostPort": 53, "containerPort": 54, "hostIP": "0.0.0.0"}`),
			"[::]:53/tcp>53 0.0.0.0:53/tcp>54",
		},
	}
	for _, tt := range tests {
		if got := text(mustLoad(t, tt.conf).mappings); got != tt.want {
			t.Errorf("%s: mappings %q, want %q", tt.conf, got, tt.want)
		}
	}
}

func text(list []mapping) string {
	out := make([]string, 0, len(list))
	for _, m := range list {
		out = append(out, m.String()+">"+itoa(m.containerPort))
	}
	return strings.Join(out, " ")
}

func TestDefaultsAndKeysWithoutEffect(t *testing.T) {
	t.Parallel()
	if c := mustLoad(t, `{}`); !c.SNAT || c.MasqAll {
		t.Errorf("snat %t, masqAll %t by default; want true, false", c.SNAT, c.MasqAll)
	}
	for _, conf := range []string{
		`{"snat": false}`, `{"backend": "iptables"}`, `{"backend": "nftables"}`,
		`{"markMasqBit": 0}`, `{"markMasqBit": 31}`, `{"externalSetMarkChain": "KUBE-MARK-MASQ"}`,
	} {
		mustLoad(t, conf)
	}
}

func TestBadConfigurationNamesTheKey(t *testing.T) {
	t.Parallel()
	tests := []struct{ conf, want string }{
		{`{"backend": "ipchains"}`, "backend: "},
		{`{"markMasqBit": -1}`, "markMasqBit: "},
		{`{"markMasqBit": 32}`, "markMasqBit: "},
		{`{"markMasqBit": 3, "externalSetMarkChain": "X"}`, "markMasqBit and externalSetMarkChain"},
		{`{"snat": "yes"}`, "snat: "},
		{`{"conditionsV4": "-d 192.0.2.1"}`, "conditionsV4: "},
		{`{"conditionsV6": ["-d", "192.0.2.1"]}`, "conditionsV6: "},
		{`{"runtimeConfig": {"portMappings": {}}}`, "runtimeConfig.portMappings: "},
		{mappings(`{"hostPort": 65536, "containerPort": 80}`), "runtimeConfig.portMappings[0].hostPort: "},
		{mappings(`{"hostPort": -1, "containerPort": 80}`), "runtimeConfig.portMappings[0].hostPort: "},
		{mappings(`{"hostPort": 80.5, "containerPort": 80}`), "runtimeConfig.portMappings[0].hostPort: "},
		{mappings(`{"hostPort": true, "containerPort": 80}`), "runtimeConfig.portMappings[0].hostPort: "},
		{mappings(`{"hostPort": [80, 90], "containerPort": 80}`), "runtimeConfig.portMappings[0].hostPort: "},
		{mappings(`{"hostPort": "80-90", "containerPort": 80}`), `runtimeConfig.portMappings[0].hostPort: "80-90" is text`},
		{mappings(`{"hostPort": 80, "containerPort": "80-90"}`), `runtimeConfig.portMappings[0].containerPort: "80-90" is text`},
		{mappings(`{"hostPort": 80, "containerPort": 80, "range": 10}`), "runtimeConfig.portMappings[0].range: "},
		{mappings(`{"hostPort": 80, "containerPort": 80, "range": "1"}`), "runtimeConfig.portMappings[0].range: "},
		{mappings(`{"hostPort": 80, "containerPort": -1}`), "runtimeConfig.portMappings[0].containerPort: "},
		{`{"conditionsV4": ["-d", "192.0.2.0/33"]}`, "conditionsV4: "},
		{mappings(`{"hostPort": 80}`), "runtimeConfig.portMappings[0].containerPort: "},
		{mappings(`{"hostPort": 80, "containerPort": 0}`), "runtimeConfig.portMappings[0].containerPort: "},
		{mappings(`{"hostPort": 8, "containerPort": 8}, {"hostPort": 80, "containerPort": 65536}`), "runtimeConfig.portMappings[1].containerPort: "},
		{mappings(`{"hostPort": 80, "containerPort": 80, "protocol": "icmp"}`), "runtimeConfig.portMappings[0].protocol: "},
		{mappings(`{"hostPort": 80, "containerPort": 80, "hostIP": "host"}`), "runtimeConfig.portMappings[0].hostIP: "},
		{mappings(`{"hostPort": 80, "containerPort": 80, "hostIP": "fe80::1%eth0"}`), "runtimeConfig.portMappings[0].hostIP: "},
		{mappings(`{"hostPort": 80, "containerPort": 80, "hostIP": "::1"}`), "runtimeConfig.portMappings[0].hostIP: ::1 "},
		{mappings(`{"hostPort": 80, "containerPort": 80, "hostIP": ["::"]}`), "runtimeConfig.portMappings[0].hostIP: "},
	}
	for _, tt := range tests {
		_, err := load(&roles.Request{Conf: []byte(tt.conf)})
		errtest.WantKey(t, err, errcode.InvalidConfig, tt.want)
	}
}

func TestDuplicatesNameBoth(t *testing.T) {
	t.Parallel()
	const first = `{"hostPort": 80, "containerPort": 80}, {"hostPort": 90, "containerPort": 90, "hostIP": "192.0.2.1"}, `
	for _, second := range []string{
		`{"hostPort": 80, "containerPort": 81, "protocol": "TCP"}`,
		`{"hostPort": 80, "containerPort": 80, "hostIP": "0.0.0.0"}`,
		`{"hostPort": 80, "containerPort": 80, "hostIP": "::"}`,
		`{"hostPort": 90, "containerPort": 91, "hostIP": "::ffff:192.0.2.1"}`,
	} {
		_, err := load(&roles.Request{Conf: []byte(mappings(first + second))})
		if err == nil || errcode.Of(err) != errcode.InvalidConfig {
			t.Errorf("%s: got %v, want code %d", second, err, errcode.InvalidConfig)
			continue
		}
		other := "runtimeConfig.portMappings[0]"
		if strings.Contains(second, "90") {
			other = "runtimeConfig.portMappings[1]"
		}
		if !strings.Contains(err.Error(), other) || !strings.Contains(err.Error(), "runtimeConfig.portMappings[2]") {
			t.Errorf("%s: %q does not name both mappings", second, err)
		}
	}
}

// The README's examples are configurations that the role takes.
func TestReadmeExamples(t *testing.T) {
	t.Parallel()
	blocks := roletest.ReadmeExamples(t, 2) // the network, and what the runtime hands over
	network := strings.TrimSpace(blocks[0])
	plugin := network[strings.Index(network, `{ "type": "portmap"`):]
	plugin = plugin[:strings.Index(plugin, "\n")]
	plugin = strings.TrimSuffix(plugin, "}") + `, "runtimeConfig": ` + blocks[1] + "}"
	if got, want := text(mustLoad(t, plugin).mappings), "192.0.2.10:8080/tcp>80"; got != want {
		t.Errorf("mappings %q, want %q", got, want)
	}
}

func FuzzConf(f *testing.F) {
	f.Add([]byte(mappings(`{"HostPort":18080,"ContainerPort":80,"Protocol":"tcp","HostIP":""}`)))
	f.Add([]byte(mappings(`{"hostPort": "80-90", "containerPort": 80, "hostIP": "::"}, {"hostPort": 80.0, "containerPort": [1]}`)))
	f.Add([]byte(`{"snat": true, "markMasqBit": 13, "externalSetMarkChain": null, "conditionsV4": ["!", "-d", "192.0.2.0/24"], "backend": "nftables"}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := load(&roles.Request{Conf: raw})
		if err != nil {
			switch errcode.Of(err) {
			case errcode.DecodingFailure, errcode.InvalidConfig, errcode.UnsupportedField:
			default:
				t.Errorf("%v has the code %d", err, errcode.Of(err))
			}
			return
		}
		entries := c.planFamily(pod4, c.conditions4)
		entries = append(entries, c.planFamily(pod6, c.conditions6)...)
		seen := map[string]bool{}
		for _, p := range portsOf(entries) {
			if p.HostPort == 0 || p.Port == 0 || nft.ProtocolName(p.Protocol) == "" {
				t.Errorf("entry %+v", p)
			}
			if p.HostIP.IsValid() && p.HostIP.Is6() != p.Addr.Is6() {
				t.Errorf("host address %s for container address %s", p.HostIP, p.Addr)
			}
			claim := nft.ProtocolName(p.Protocol) + p.HostIP.String() + itoa(p.HostPort) + p.Addr.String()
			if seen[claim] {
				t.Errorf("%s is mapped twice", claim)
			}
			seen[claim] = true
		}
	})
}
