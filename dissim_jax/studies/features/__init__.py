"""What members' last features hold together (Gontijo-Lopes et al. 2022, section 4.6)."""
