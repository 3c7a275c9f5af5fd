package realkafka

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// User and Password are whom the secure listener lets in.
const (
	User     = "job"
	Password = "open-sesame"
)

// secureListener returns the settings of the listener that wants TLS and a
// password.
func secureListener(n *node) map[string]string {
	const mechanism = "SCRAM-SHA-256"
	return map[string]string{
		"sasl.enabled.mechanisms":                             mechanism,
		"listener.name.secure.sasl.enabled.mechanisms":        mechanism,
		"listener.name.secure.scram-sha-256.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
		"ssl.keystore.type":                                   "PEM",
		"ssl.keystore.location":                               n.keyStore(),
	}
}

func (n *node) keyStore() string { return filepath.Join(n.dir, "broker.pem") }

// formatSecure is what the storage tool needs to know of the user: without one in
// the metadata from the start, nobody could connect to add one.
func formatSecure() []string {
	return []string{"--add-scram", "SCRAM-SHA-256=[name=" + User + ",password=" + Password + "]"}
}

// certify makes a key and a certificate for 127.0.0.1 that vouches for itself, the
// same for all nodes.
func certify(nodes []*node) (*x509.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "realkafka"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	store := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	for _, n := range nodes {
		if err := os.WriteFile(n.keyStore(), store, 0o600); err != nil {
			return nil, err
		}
	}
	return x509.ParseCertificate(der)
}

// TLS returns what a client needs to trust the secure listener. The cluster must
// have been started with Options.Secure.
func (c *Cluster) TLS() *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(c.certificate)
	return &tls.Config{RootCAs: roots}
}

// SecureClient returns the options of a client that connects to [Cluster.SecureAddrs]
// as [User].
func (c *Cluster) SecureClient() []kgo.Opt {
	auth := scram.Auth{User: User, Pass: Password}
	return []kgo.Opt{kgo.DialTLSConfig(c.TLS()), kgo.SASL(auth.AsSha256Mechanism())}
}
