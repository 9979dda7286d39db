// Vproof checks that one line is in an audit log, with nothing of that log's own library:
//
//	vproof vkey.txt                      <checkpoint      the checkpoint's signature
//	vproof vkey.txt entry.tlog-proof entry.json           one line and its proof
//
// It exits with 0 and says what holds, or with 1 and says what doesn't.
package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/transparency-dev/formats/proof"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	said, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "vproof:", err)
		os.Exit(1)
	}
	fmt.Println(said)
}

func run(args []string) (string, error) {
	if len(args) != 1 && len(args) != 3 {
		return "", errors.New("usage: vproof VKEY [PROOF LINE], without the last two a checkpoint on the standard input")
	}
	vkey, err := os.ReadFile(args[0])
	if err != nil {
		return "", err
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(string(vkey)))
	if err != nil {
		return "", err
	}
	if len(args) == 1 {
		checkpoint, err := io.ReadAll(os.Stdin)
		if err != nil {
			return "", err
		}
		size, root, err := open(checkpoint, verifier)
		return fmt.Sprintf("signed by %s: size %d, root %v", verifier.Name(), size, root), err
	}

	text, err := os.ReadFile(args[1])
	if err != nil {
		return "", err
	}
	line, err := os.ReadFile(args[2])
	if err != nil {
		return "", err
	}
	var proof proof.TLogProof
	if err := proof.Unmarshal(text); err != nil {
		return "", err
	}
	size, root, err := open(proof.Checkpoint, verifier)
	if err != nil {
		return "", err
	}
	hashes := make(tlog.RecordProof, len(proof.Hashes))
	for i, hash := range proof.Hashes {
		hashes[i] = tlog.Hash(hash)
	}
	// The entry of the tree is the digest of the line, without its line feed.
	entry := sha256.Sum256(bytes.TrimSuffix(line, []byte("\n")))
	index := int64(proof.Index)
	if err := tlog.CheckRecord(hashes, size, root, index, tlog.RecordHash(entry[:])); err != nil {
		return "", err
	}
	return fmt.Sprintf("the line is entry %d of %d in %s", index, size, verifier.Name()), nil
}

// open returns the size and the root of a checkpoint that the verifier's key has signed.
// tlog.ParseTree is for Go's own checksum database: it wants another first line.
func open(checkpoint []byte, verifier note.Verifier) (int64, tlog.Hash, error) {
	opened, err := note.Open(checkpoint, note.VerifierList(verifier))
	if err != nil {
		return 0, tlog.Hash{}, err
	}
	origin, rest, _ := strings.Cut(opened.Text, "\n")
	if origin != verifier.Name() {
		return 0, tlog.Hash{}, fmt.Errorf("the checkpoint is of %q, not of %q", origin, verifier.Name())
	}
	tree, err := tlog.ParseTree([]byte("go.sum database tree\n" + rest))
	return tree.N, tree.Hash, err
}
